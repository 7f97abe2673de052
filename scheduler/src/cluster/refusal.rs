//! What an operator is told when something does not work: `{"error": "…"}`.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

/// A status, and why.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({"error": self.1}))).into_response()
    }
}

/// The driver has stopped.
#[derive(Debug)]
pub(crate) struct Stops;

impl From<Stops> for Refusal {
    fn from(_: Stops) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, "the scheduler stops".to_owned())
    }
}

/// A request's body, in JSON.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Refusal(rejection.status(), rejection.body_text())),
        }
    }
}
