//! Round trips of questions and answers.

use super::*;

#[test]
fn questions_and_answers_travel_unchanged() {
    let registry = Registry::parse("ghcr.io").unwrap();
    let resolve = ResolveRequest {
        registry,
        repository: "a/b".to_owned(),
        reference: "latest".to_owned(),
        accept: vec!["application/vnd.oci.image.manifest.v1+json".to_owned()],
    };
    assert_eq!(ResolveRequest::try_from(wire::ResolveRequest::from(resolve.clone())).unwrap(), resolve);
    let manifest = Ok(Manifest {
        digest: Digest::sha256(b"{}"),
        media_type: "m".to_owned(),
        content: b"{}"[..].into(),
        credential: CredentialKind::Configured,
        lapsed: true,
    });
    let back: Result<_, _> = wire::ResolveResponse::from(manifest.clone()).try_into().unwrap();
    assert_eq!(back, manifest);
    let no = OriginRefusal {
        status: 401,
        challenges: vec!["Bearer realm=\"https://ghcr.io/token\"".to_owned()],
        body: b"no"[..].into(),
        retry_after: Duration::from_secs(9),
        message: "ä".repeat(4000),
    };
    let back: Result<Access, _> = wire::AccessResponse::from(Err(no.clone())).try_into().unwrap();
    let short = OriginRefusal { message: "ä".repeat(512), ..no };
    assert_eq!(back, Err(short));
    let access = Ok(Access { credential: CredentialKind::Anonymous, size: Some(0), lapsed: true });
    let back: Result<_, _> = wire::AccessResponse::from(access.clone()).try_into().unwrap();
    assert_eq!(back, access);
    let many = wire::ResolveRequest { accept: vec![String::new(); 33], ..resolve.into() };
    let error = ResolveRequest::try_from(many).expect_err("too many");
    assert_eq!(error.to_string(), "accept has length 33, more than 32");
}
