//! Who gets in by a token, and who stays out.

use super::*;
use membership::{HostKey, Ticket};
use std::time::Duration;
use tonic::Code;

fn cluster() -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(&dir.path().join("state"), None).unwrap();
    (dir, cluster)
}

fn first_token(cluster: &Cluster) -> JoinToken {
    let text = std::fs::read_to_string(cluster.first_token_file().expect("a first token")).unwrap();
    text.trim().parse().unwrap()
}

fn request(key: &HostKey, token: &JoinToken) -> JoinRequest {
    JoinRequest { peer_id: key.public().peer_id(), secret: *token.secret.expose(), proof: token.prove(key) }
}

fn host(seed: u8) -> HostKey {
    HostKey::from_secret(&[seed; 32]).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.expect_err("refused").code()
}

#[test]
fn a_host_with_the_token_becomes_a_member_also_after_a_restart() {
    let (dir, cluster) = cluster();
    let token = first_token(&cluster);
    assert_eq!(token.authority, cluster.authority.hash());
    let key = host(1);
    let again = Cluster::open(&dir.path().join("state"), None).unwrap();
    assert_eq!(first_token(&again).secret.hash(), token.secret.hash());
    for cluster in [cluster, again] {
        let now = SystemTime::now();
        let (joined, credentials) = cluster.join(&request(&key, &token), now).unwrap();
        assert_eq!(joined, key.public());
        let keys: Vec<_> =
            credentials.ticket_keys.iter().map(|key| membership::TicketKey::from_bytes(*key)).collect();
        Ticket::verify(&credentials.ticket, &keys, &joined, now).unwrap();
        cluster.renew(&joined, now).unwrap();
    }
}

/// As a Secret is mounted, with modes that nobody here chose; another directory for the state, which is lost now and then.
#[test]
fn an_identity_that_others_keep_outlives_the_state() {
    let (source, made) = cluster();
    let mounted = tempfile::tempdir().unwrap();
    for name in ["ca.key", "ticket.key"] {
        let key = std::fs::read(source.path().join("state").join(name)).unwrap();
        std::fs::write(mounted.path().join(name), key).unwrap();
    }
    let open = |state: &Path| Cluster::open(state, Some(mounted.path()));
    let state = tempfile::tempdir().unwrap();
    let without = open(&state.path().join("a")).unwrap();
    assert_eq!(without.authority.hash(), made.authority.hash());
    assert!(without.first_token_file().is_none() && without.tokens.list(SystemTime::now()).is_empty());
    let key = host(1);
    let made_token = first_token(&made);
    assert_eq!(code(without.join(&request(&key, &made_token), SystemTime::now())), Code::Unauthenticated);

    let file = mounted.path().join("join-token");
    std::fs::write(&file, made_token.expose()).unwrap();
    for state in [state.path().join("a"), state.path().join("b")] {
        let cluster = open(&state).unwrap();
        cluster.join(&request(&key, &made_token), SystemTime::now()).unwrap();
        let listed = cluster.tokens.list(SystemTime::now());
        assert_eq!(listed.iter().map(tokens::Record::note).collect::<Vec<_>>(), ["mounted"]);
        let error = cluster.revoke_token(&listed[0].id()).unwrap_err().to_string();
        assert!(error.contains("mounted"), "{error}");
        // Others can be made beside it, and are kept in the state.
        let (other, _) = cluster.create_token(NewToken { note: String::new(), lifetime: None }).unwrap();
        cluster.join(&request(&key, &other), SystemTime::now()).unwrap();
        let again = open(&state).unwrap();
        again.join(&request(&key, &other), SystemTime::now()).unwrap();
        assert_eq!(again.tokens.list(SystemTime::now()).len(), 2);
    }

    let (_dir, foreign) = cluster();
    std::fs::write(&file, first_token(&foreign).expose()).unwrap();
    let error = format!("{:?}", open(&state.path().join("c")).unwrap_err());
    assert!(error.contains("another cluster"), "{error}");
    std::fs::write(&file, "dfjoin1.secret").unwrap();
    let error = format!("{:?}", open(&state.path().join("c")).unwrap_err());
    assert!(error.contains("no join token") && !error.contains("dfjoin1"), "{error}");
    // Keys are not made where others keep them.
    std::fs::remove_file(mounted.path().join("ca.key")).unwrap();
    assert!(open(&state.path().join("c")).is_err());
    assert!(!mounted.path().join("ca.key").exists());
}

#[test]
fn attack_join_with_what_is_not_the_token_or_not_the_key() {
    let ((_dir, ours), (_other, theirs)) = (cluster(), cluster());
    let (key, now) = (host(1), SystemTime::now());
    let token = first_token(&ours);
    assert_eq!(code(ours.join(&request(&key, &first_token(&theirs)), now)), Code::Unauthenticated);
    let stolen_id = JoinRequest { peer_id: host(2).public().peer_id(), ..request(&key, &token) };
    assert_eq!(code(ours.join(&stolen_id, now)), Code::Unauthenticated);
    let no_key = JoinRequest { peer_id: vec![1; 34], ..request(&key, &token) };
    assert_eq!(code(ours.join(&no_key, now)), Code::InvalidArgument);
    let no_proof = JoinRequest { proof: [0; 64], ..request(&key, &token) };
    assert_eq!(code(ours.join(&no_proof, now)), Code::Unauthenticated);
    // A proof that was made for another cluster does not open this one.
    let theirs = JoinToken { secret: token.secret.clone(), ..first_token(&theirs) };
    assert_eq!(code(ours.join(&request(&key, &theirs), now)), Code::Unauthenticated);
    ours.join(&request(&key, &token), now).unwrap();
}

#[test]
fn attack_join_with_a_stolen_token_after_its_rotation() {
    let (_dir, cluster) = cluster();
    let (key, now) = (host(1), SystemTime::now());
    let old = first_token(&cluster);
    let (new, record) = cluster
        .create_token(NewToken { note: String::new(), lifetime: Some(Duration::from_secs(60)) })
        .unwrap();
    cluster.join(&request(&key, &old), now).unwrap();
    cluster.join(&request(&key, &new), now).unwrap();
    assert!(cluster.revoke_token(&old.secret.hash().id()).unwrap());
    assert!(cluster.first_token_file().is_none(), "a file with a token that is good for nothing");
    assert_eq!(code(cluster.join(&request(&host(2), &old), now)), Code::Unauthenticated);
    cluster.join(&request(&host(3), &new), now).unwrap();
    cluster.renew(&key.public(), now).expect("members stay members");
    let later = now + Duration::from_secs(61);
    assert_eq!(code(cluster.join(&request(&host(2), &new), later)), Code::Unauthenticated, "expired");
    assert_eq!(record.id(), new.secret.hash().id());
}

#[test]
fn a_removed_host_stays_out_until_it_is_let_in_again() {
    let (dir, cluster) = cluster();
    let (key, now) = (host(1), SystemTime::now());
    let token = first_token(&cluster);
    cluster.join(&request(&key, &token), now).unwrap();
    let id = key.public().host().to_string();
    assert!(cluster.removed.add(&id).unwrap());
    let again = Cluster::open(&dir.path().join("state"), None).unwrap();
    for cluster in [&cluster, &again] {
        assert_eq!(code(cluster.join(&request(&key, &token), now)), Code::PermissionDenied);
        assert_eq!(code(cluster.renew(&key.public(), now)), Code::PermissionDenied);
        cluster.join(&request(&host(2), &token), now).unwrap();
    }
    assert!(again.removed.restore(&id).unwrap());
    again.join(&request(&key, &token), now).unwrap();
}
