//! What must not be seen: passwords, tokens, Authorization headers; and with which of them the origin is asked.

use http::HeaderValue;
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;

/// A password, a token, or the value of an Authorization header.
///
/// It shows itself in no log and no error. Equality takes a time that depends on the contents: good for a cache's key,
/// not for letting somebody in.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps `text` from being seen.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// As a header's value, marked as sensitive; nothing if it has a character that no header has.
    #[must_use]
    pub fn to_header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.0).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The value of a header that came in; nothing if it is not visible ASCII.
    #[must_use]
    pub fn from_header(value: &HeaderValue) -> Option<Self> {
        value.to_str().ok().map(Self::new)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// With which right the origin is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Auth {
    /// As anybody: without a credential, but with an anonymous token where the origin wants one.
    Anonymous,
    /// With the credential that the configuration has for the repository.
    Configured,
    /// With a client's Authorization header, sent as it is. No token is fetched with it.
    Client(Secret),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let auth = Auth::Client(Secret::new("Bearer hunter2"));
        assert!(!format!("{auth:?}").contains("hunter2"));
        let Auth::Client(secret) = auth else { unreachable!() };
        assert!(!format!("{secret} {secret:?} {:?}", secret.to_header()).contains("hunter2"));
        assert_eq!(secret.expose(), "Bearer hunter2");
    }
}
