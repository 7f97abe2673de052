//! All that can be asked on the operator's socket: one table of routes, and the document that describes them.
//!
//! `scheduler/openapi.json` is written by hand. The tests here hold it against the table, and against what is really
//! said. Preheats are there over gRPC too.

use super::operator::{self, Desk};
use super::refusal::Refusal;
use crate::preheat::{grpc, routes as preheats};
use axum::Router;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, MethodRouter, on};

/// The document.
const OPENAPI: &str = include_str!("../../openapi.json");

/// A method and a path, and who answers.
type Route = (MethodFilter, &'static str, MethodRouter<Desk>);

fn route<T: 'static>(method: MethodFilter, path: &'static str, to: impl Handler<T, Desk>) -> Route {
    (method, path, on(method, to))
}

/// Every route there is.
fn table() -> [Route; 12] {
    const GET: MethodFilter = MethodFilter::GET;
    const POST: MethodFilter = MethodFilter::POST;
    const PUT: MethodFilter = MethodFilter::PUT;
    const DELETE: MethodFilter = MethodFilter::DELETE;
    [
        route(GET, "/v1/tokens", operator::tokens),
        route(POST, "/v1/tokens", operator::create_token),
        route(DELETE, "/v1/tokens/{id}", operator::revoke_token),
        route(GET, "/v1/removed-hosts", operator::removed_hosts),
        route(PUT, "/v1/removed-hosts/{id}", operator::remove_host),
        route(DELETE, "/v1/removed-hosts/{id}", operator::restore_host),
        route(POST, "/v1/flush", operator::flush),
        route(GET, "/v1/preheats", preheats::list),
        route(POST, "/v1/preheats", preheats::begin),
        route(GET, "/v1/preheats/{id}", preheats::get),
        route(DELETE, "/v1/preheats/{id}", preheats::cancel),
        route(GET, "/v1/openapi.json", openapi),
    ]
}

/// Answers on all of them, and says of any other path that it is none.
pub(super) fn router(desk: Desk) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, (_, path, to)| router.route(path, to));
    let routes = routes.method_not_allowed_fallback(no_such_method).fallback(no_such_path);
    routes.with_state(desk.clone()).merge(grpc::routes(desk))
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn no_such_path() -> Refusal {
    let why = "there is no such path: GET /v1/openapi.json says which there are";
    Refusal(StatusCode::NOT_FOUND, why.to_owned())
}

async fn no_such_method() -> Refusal {
    let why = "this path has other methods: GET /v1/openapi.json says which";
    Refusal(StatusCode::METHOD_NOT_ALLOWED, why.to_owned())
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
