//! A scheduler with TLS, its hosts, and its operator's socket.

use crate::fake_host::{FakeHost, Running, client, hello, options};
use membership::{HostKey, JoinToken, SERVER_NAME, client_config};
use proto::{Credentials, JoinRequest, wire};
use scheduler::Options;
use std::io::{Read as _, Write as _};
use std::time::Duration;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A scheduler with TLS whose state is in a directory of its own.
pub(crate) struct Cluster {
    pub(crate) running: Running,
    pub(crate) token: JoinToken,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn secure(dir: &tempfile::TempDir) -> Options {
    let mut options = Options { insecure_plain_grpc: false, state: dir.path().join("state"), ..options() };
    // The hosts of these tests say little.
    options.hosts.silence_timeout = Duration::from_secs(60);
    options
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With options that are changed so.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = secure(&dir);
        change(&mut options);
        let running = Running::start(options).await;
        let file = running.server.join_token_file().expect("a first token");
        let token = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        Self { running, token, dir }
    }

    /// A channel that shows this certificate, if it is given one.
    pub(crate) fn channel(&self, shown: Option<(&HostKey, &[u8])>) -> Channel {
        let shown = shown.map(|(key, certificate)| (key.clone(), certificate.to_vec()));
        let authority = self.token.authority;
        let address = format!("http://{}", self.running.server.grpc_addr());
        let endpoint = Endpoint::from_shared(address).unwrap();
        let name = SERVER_NAME.try_into().unwrap();
        process::grpc::channel(&endpoint, &name, move || {
            let shown = shown.as_ref().map(|(key, certificate)| (key, &certificate[..]));
            client_config(authority, shown).map_err(std::io::Error::other)
        })
    }

    pub(crate) async fn join(&self, key: &HostKey) -> Result<Credentials, Status> {
        let mut client = client(self.channel(None));
        let answer = client.join(wire::JoinRequest::from(request(key, &self.token))).await?;
        Ok(answer.into_inner().try_into().unwrap())
    }

    pub(crate) async fn member(&self, key: &HostKey) -> Channel {
        let credentials = self.join(key).await.unwrap();
        self.channel(Some((key, &credentials.certificate)))
    }

    /// Asks on the operator's socket; the answer's status and body.
    pub(crate) fn operator(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let socket = self.running.server.operator_socket().unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let body = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }
}

pub(crate) fn request(key: &HostKey, token: &JoinToken) -> JoinRequest {
    JoinRequest { peer_id: key.public().peer_id(), secret: *token.secret.expose(), proof: token.prove(key) }
}

pub(crate) fn host(seed: u8) -> HostKey {
    HostKey::from_secret(&[seed; 32]).unwrap()
}

pub(crate) fn hello_of(key: &HostKey) -> proto::Hello {
    proto::Hello { peer_id: key.public().peer_id(), ..hello("x") }
}

pub(crate) async fn connect(channel: Channel, key: &HostKey) -> Result<FakeHost, Status> {
    FakeHost::connect(channel, hello_of(key)).await
}
