//! Our TLS upgrade against libp2p's own, in both directions, up to the multiplexer inside it.

use crate::support::SOON;
use futures::StreamExt;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse};
use libp2p::core::{Endpoint, Transport as _};
use libp2p::multiaddr::{Multiaddr, Protocol};
use p2p::Identity;
use p2p::tls::{Secured, Tls};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const YAMUX: &[u8] = b"\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n";

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// Agrees on yamux, which the stock side does next; `YAMUX` is what both sides say.
async fn agree(stream: &mut Secured<TcpStream>) {
    stream.write_all(YAMUX).await.unwrap();
    stream.flush().await.unwrap();
    let mut said = vec![0; YAMUX.len()];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(said, YAMUX);
}

#[tokio::test]
async fn the_stock_stack_dials_us() {
    let (ours, theirs) = (Identity::generate(), Identity::generate());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = multiaddr(listener.local_addr().unwrap());
    let mut stock = p2p::stock::transport(&theirs).unwrap();
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = stock.dial(address, options).unwrap();
    let accept = async {
        let (socket, _) = listener.accept().await.unwrap();
        let (peer, mut stream) = Tls::new(&ours).unwrap().accept(socket).await.unwrap();
        agree(&mut stream).await;
        (peer, stream)
    };
    let both = async { tokio::join!(dial, accept) };
    let (dialed, (peer, _stream)) = timeout(SOON, both).await.unwrap();
    assert_eq!(dialed.unwrap().0, ours.peer_id());
    assert_eq!(peer, theirs.peer_id());
}

#[tokio::test]
async fn we_dial_the_stock_stack() {
    let (ours, theirs) = (Identity::generate(), Identity::generate());
    let mut stock = p2p::stock::transport(&theirs).unwrap();
    stock.listen_on(ListenerId::next(), multiaddr("127.0.0.1:0".parse().unwrap())).unwrap();
    let listening = stock.next().await.unwrap().into_new_address().unwrap();
    let Some(Protocol::Tcp(port)) = listening.iter().nth(1) else { panic!("{listening}") };
    let accept = async {
        loop {
            if let Some((upgrade, _)) = stock.next().await.unwrap().into_incoming() {
                return upgrade.await.unwrap();
            }
        }
    };
    let dial = async {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut stream = Tls::new(&ours).unwrap().dial(socket, theirs.peer_id()).await.unwrap();
        agree(&mut stream).await;
        stream
    };
    let both = async { tokio::join!(accept, dial) };
    let ((peer, _muxer), _stream) = timeout(SOON, both).await.unwrap();
    assert_eq!(peer, ours.peer_id());
}

#[tokio::test]
async fn the_cipher_is_aes_where_the_cpu_has_it() {
    let (ours, theirs) = (Identity::generate(), Identity::generate());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (socket, _) = listener.accept().await.unwrap();
        Tls::new(&ours).unwrap().accept(socket).await.unwrap()
    };
    let dial = async {
        let socket = TcpStream::connect(address).await.unwrap();
        Tls::new(&theirs).unwrap().dial(socket, ours.peer_id()).await.unwrap()
    };
    let ((peer, _), stream) = tokio::join!(accept, dial);
    assert_eq!(peer, theirs.peer_id());
    let (_, session) = stream.get_ref();
    let suite = session.negotiated_cipher_suite().unwrap().suite();
    println!("{suite:?}");
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(session.alpn_protocol(), Some(&b"libp2p"[..]));
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("aes") {
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}
