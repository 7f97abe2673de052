//! The document against the table of routes, against the router, and against what is really said.

use super::*;
use crate::cluster::Cluster;
use crate::cluster::operator::{
    FlushRequest, Flushed, HostRemoved, LIFETIME_MAX, Peer, TokenRequest, TokenView,
};
use crate::cluster::tokens::NOTE_BYTES_MAX;
use crate::driver::Driver;
use crate::preheat::platform::{OFFERED_MAX, PLATFORMS_MAX};
use crate::preheat::service::Request as PreheatRequest;
use crate::preheat::targets::{HOSTS_MAX, ZONES_MAX};
use crate::preheat::view::{
    FAILURES_MAX, FailureView, HostCounts, ImageView, PreheatView, ROWS_MAX, RowView, State,
};
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use http_body_util::BodyExt as _;
use origin::{Origin, Resolver, ResolverOptions};
use proto::PREHEAT_IMAGES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use tower::ServiceExt as _;

const METHODS: [(&str, MethodFilter); 4] = [
    ("get", MethodFilter::GET),
    ("post", MethodFilter::POST),
    ("put", MethodFilter::PUT),
    ("delete", MethodFilter::DELETE),
];

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// The methods and paths of the document, with what it says of each.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters");
        operations.extend(methods.map(|(method, operation)| (method.as_str(), path.as_str(), operation)));
    }
    operations
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn schema<'a>(document: &'a Value, name: &str) -> &'a Value {
    let schema = &document["components"]["schemas"][name];
    assert!(schema.is_object(), "there is no schema {name}");
    schema
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let document = document();
    let named = |method: MethodFilter| METHODS.iter().find(|(_, filter)| *filter == method).unwrap().0;
    let answered: BTreeSet<_> = table().iter().map(|(method, path, _)| (named(*method), *path)).collect();
    let operations = operations(&document);
    let written: BTreeSet<_> = operations.iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(answered, written);
    let ids: BTreeSet<&str> =
        operations.iter().map(|(_, _, operation)| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations.len(), "an operationId is there twice");
    for (method, path, operation) in operations {
        let responses = keys(&operation["responses"]);
        assert!(responses.iter().any(|status| status.starts_with('2')), "{method} {path}: no success");
        assert!(responses.contains("default") && operation["summary"].is_string(), "{method} {path}");
    }
}

/// A router of a scheduler that has stopped.
fn stopped() -> (tempfile::TempDir, Router) {
    process::tls::install_provider();
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(&dir.path().join("state"), None).unwrap();
    let origin = Origin::new(origin::Options::default()).unwrap();
    let (inputs, _) = Driver::queue();
    let desk = Desk::new(cluster, Resolver::new(origin, ResolverOptions::default()), inputs, None);
    (dir, router(desk))
}

async fn ask(router: &Router, method: &str, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
    let mut request = request.body(Body::from("{}")).unwrap();
    request.extensions_mut().insert(ConnectInfo(Peer { uid: 0 }));
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn what_is_documented_is_answered_and_no_other_method() {
    let (_dir, router) = stopped();
    let document = document();
    let (nowhere, no_such_path) = ask(&router, "GET", "/v1/nowhere").await;
    assert_eq!(nowhere, StatusCode::NOT_FOUND);
    for (path, item) in document["paths"].as_object().unwrap() {
        let documented = keys(item);
        for (method, _) in METHODS {
            let asked = path.replace("{id}", "0123456789abcdef");
            let (status, body) = ask(&router, &method.to_uppercase(), &asked).await;
            let refused = status == StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(refused, !documented.contains(method), "{method} {path}: {status} {body}");
            assert_ne!(body, no_such_path, "{method} {path}");
            if !status.is_success() {
                conforms(&document, schema(&document, "Error"), &serde_json::from_str(&body).unwrap(), path);
            }
        }
    }
    let (status, body) = ask(&router, "GET", "/v1/openapi.json").await;
    assert!(status.is_success() && body == OPENAPI);
    // Paths of gRPC are the service's, also where it knows none.
    let (status, body) = ask(&router, "POST", "/damselfly.v1.Preheats/Nothing").await;
    assert_ne!((status, &body), (StatusCode::NOT_FOUND, &no_such_path));
}

/// Whether a value has the form of a schema: each object all that is required, or everything that there is.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let meant = document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere"));
        return conforms(document, meant, value, at);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = &schema["type"];
    let fits = kinds == kind || kinds.as_array().is_some_and(|kinds| kinds.iter().any(|known| known == kind));
    assert!(fits, "{at} is a {kind}, not {kinds}");
    if let Some(known) = schema["enum"].as_array() {
        assert!(known.contains(value), "{at} is {value}");
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| conforms(document, &schema["items"], item, at)),
        Value::Object(fields) => {
            let required: BTreeSet<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let (there, all) = (keys(value), keys(&schema["properties"]));
            assert!(there == all || there == required, "{at}: {there:?} of {all:?}, {required:?} required");
            for (key, field) in fields {
                conforms(document, &schema["properties"][key], field, &format!("{at}.{key}"));
            }
        }
        _ => {}
    }
}

/// Whether a value has all of a schema's properties.
fn has_all(document: &Value, name: &str, value: &impl Serialize) {
    let (schema, value) = (schema(document, name), serde_json::to_value(value).unwrap());
    assert_eq!(keys(&value), keys(&schema["properties"]), "{name}");
    conforms(document, schema, &value, name);
}

/// Whether a value has what a schema requires, and no more.
fn has_what_is_required(document: &Value, name: &str, value: &impl Serialize) {
    let (schema, value) = (schema(document, name), serde_json::to_value(value).unwrap());
    let required = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str);
    assert_eq!(keys(&value), required.collect::<BTreeSet<&str>>(), "{name}");
    conforms(document, schema, &value, name);
}

fn preheat() -> PreheatView {
    let host = || "661da0c17a2429dd".to_owned();
    let image = ImageView {
        image: "ghcr.io/org/app:v1".to_owned(),
        digest: "sha256:ab".to_owned(),
        platforms: vec!["linux/amd64".to_owned()],
        bytes: 1,
    };
    let row = |state, why| RowView {
        host: host(),
        zone: "eu-1a".to_owned(),
        platform: "linux/amd64".to_owned(),
        state,
        bytes: 1,
        held_bytes: 1,
        blobs: 1,
        held_blobs: 1,
        why,
    };
    let states = [State::Running, State::Done, State::Failed, State::Cancelled, State::Away];
    PreheatView {
        id: "17".to_owned(),
        state: State::Failed,
        created: 1,
        ended: Some(1),
        images: [image].into(),
        bytes: 1,
        held_bytes: 1,
        hosts: HostCounts { total: 1, done: 0, failed: 1, away: 0 },
        failures: vec![FailureView { host: host(), why: "why".to_owned() }],
        rows: Some(states.into_iter().map(|state| row(state, (state == State::Failed).then(host))).collect()),
    }
}

#[test]
fn what_is_said_has_the_properties_of_its_schema() {
    let document = document();
    let token = TokenView {
        id: "ab".to_owned(),
        created: 1,
        expires: Some(1),
        note: "rack 7".to_owned(),
        token: Some("dfjoin1".to_owned()),
    };
    has_all(&document, "Token", &token);
    has_what_is_required(&document, "Token", &TokenView { expires: None, token: None, ..token });
    for connected in [None, Some(true)] {
        has_all(&document, "HostRemoved", &HostRemoved { connected });
    }
    has_all(&document, "Flushed", &Flushed { hosts: 1 });
    has_all(&document, "Preheat", &preheat());
    for state in [State::Running, State::Done, State::Failed, State::Cancelled] {
        let listed = PreheatView { state, ended: None, rows: None, ..preheat() };
        has_what_is_required(&document, "Preheat", &listed);
    }
}

/// A request's example has every property that it can have, and is understood.
fn is_understood<T: DeserializeOwned>(document: &Value, name: &str) {
    let schema = schema(document, name);
    let example = &schema["examples"][0];
    assert_eq!(keys(example), keys(&schema["properties"]), "{name}");
    conforms(document, schema, example, name);
    serde_json::from_value::<T>(example.clone()).unwrap();
    let mut more = example.clone();
    more["another"] = Value::Null;
    assert!(serde_json::from_value::<T>(more).is_err() && schema["additionalProperties"] == false, "{name}");
}

#[test]
fn requests_are_understood_as_they_are_documented() {
    let document = document();
    is_understood::<TokenRequest>(&document, "TokenRequest");
    is_understood::<FlushRequest>(&document, "FlushRequest");
    is_understood::<PreheatRequest>(&document, "PreheatRequest");
}

#[test]
fn bounds_are_those_of_the_code() {
    let document = document();
    for (name, property, bound, expected) in [
        ("TokenRequest", "note", "maxLength", NOTE_BYTES_MAX as u64),
        ("TokenRequest", "lifetime_seconds", "maximum", LIFETIME_MAX.as_secs()),
        ("PreheatRequest", "images", "maxItems", PREHEAT_IMAGES_MAX as u64),
        ("PreheatRequest", "platforms", "maxItems", PLATFORMS_MAX as u64),
        ("PreheatRequest", "zones", "maxItems", ZONES_MAX as u64),
        ("PreheatRequest", "hosts", "maxItems", HOSTS_MAX as u64),
        ("Preheat", "failures", "maxItems", FAILURES_MAX as u64),
        ("Preheat", "rows", "maxItems", ROWS_MAX as u64),
        ("PreheatImage", "platforms", "maxItems", OFFERED_MAX as u64),
    ] {
        assert_eq!(schema(&document, name)["properties"][property][bound], expected, "{name}.{property}");
    }
}
