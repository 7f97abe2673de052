//! Who may read what: none, basic, or bearer tokens from an endpoint of its own.

use http::{HeaderMap, Method, header};
use std::collections::BTreeMap;

/// Which credential the origin asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// None.
    #[default]
    None,
    /// This user's name and password with every request.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token from `/token`, also for an anonymous client. A user gets one for every repository; an anonymous client
    /// gets one that is good for those that are not private. The user's OAuth2 refresh token is `identity-USER`.
    Bearer {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// What the answer says of the token's life, in seconds; the token does not lapse by itself.
        expires_in: Option<u64>,
        /// Whether `/token` takes POST.
        oauth: bool,
    },
}

impl AuthMode {
    /// Bearer tokens with the answers that most registries give.
    #[must_use]
    pub fn bearer(user: &str, password: &str) -> Self {
        Self::Bearer { user: user.into(), password: password.into(), expires_in: Some(300), oauth: true }
    }

    /// A user's name and a password.
    #[must_use]
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic { user: user.into(), password: password.into() }
    }
}

/// Whom a token was given to.
#[derive(Clone, Debug)]
struct Grant {
    repository: String,
    anonymous: bool,
}

pub(super) struct Guard {
    mode: AuthMode,
    realm: String,
    grants: BTreeMap<String, Grant>,
    issued: u64,
}

/// What becomes of a request.
pub(super) enum Verdict {
    Allowed,
    /// 401 with this challenge.
    Challenge(String),
}

impl Guard {
    pub(super) fn new(mode: AuthMode, url: &str) -> Self {
        Self { mode, realm: format!("{url}/token"), grants: BTreeMap::new(), issued: 0 }
    }

    pub(super) fn revoke(&mut self) {
        self.grants.clear();
    }

    /// Whether a request with these headers may see `repository` (`None` for `/v2/`).
    pub(super) fn judge(&self, headers: &HeaderMap, repository: Option<&str>, private: bool) -> Verdict {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        match &self.mode {
            AuthMode::None => Verdict::Allowed,
            AuthMode::Basic { user, password } => {
                if authorization.and_then(basic) == Some((user.clone(), password.clone())) {
                    Verdict::Allowed
                } else {
                    Verdict::Challenge("Basic realm=\"Registry\"".into())
                }
            }
            AuthMode::Bearer { .. } => {
                let grant =
                    authorization.and_then(|a| a.strip_prefix("Bearer ")).and_then(|t| self.grants.get(t));
                let good = grant.is_some_and(|grant| {
                    repository.is_none_or(|name| grant.repository == name && !(private && grant.anonymous))
                });
                if good { Verdict::Allowed } else { Verdict::Challenge(self.challenge(repository)) }
            }
        }
    }

    fn challenge(&self, repository: Option<&str>) -> String {
        let scope = repository.map(|name| format!(",scope=\"repository:{name}:pull\"")).unwrap_or_default();
        format!("Bearer realm=\"{}\",service=\"test-registry\"{scope}", self.realm)
    }

    /// The answer of `/token`: JSON, or a status.
    pub(super) fn token(
        &mut self,
        method: &Method,
        query: &str,
        headers: &HeaderMap,
        form: &str,
    ) -> Result<String, u16> {
        let AuthMode::Bearer { user, password, expires_in, oauth } = self.mode.clone() else {
            return Err(404);
        };
        let anonymous = if *method == Method::POST {
            let form = parse(form);
            let get = |key: &str| form.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            if !oauth {
                return Err(404);
            }
            let refreshed = get("grant_type") == Some("refresh_token")
                && get("refresh_token") == Some(&format!("identity-{user}"));
            let logged_in = get("grant_type") == Some("password")
                && (get("username"), get("password")) == (Some(&user), Some(&password));
            if !refreshed && !logged_in {
                return Err(401);
            }
            false
        } else {
            match headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) {
                None => true,
                Some(value) => {
                    let (name, secret) = basic(value).ok_or(401u16)?;
                    let identity = format!("identity-{user}");
                    if (name != user || secret != password) && secret != identity {
                        return Err(401);
                    }
                    false
                }
            }
        };
        let asked = parse(if *method == Method::POST { form } else { query });
        let scope = asked.iter().find(|(key, _)| key == "scope").map_or("", |(_, value)| value.as_str());
        let repository =
            scope.strip_prefix("repository:").and_then(|s| s.rsplit_once(':')).map_or("", |(name, _)| name);
        self.issued += 1;
        let token = format!("token-{}", self.issued);
        self.grants.insert(token.clone(), Grant { repository: repository.into(), anonymous });
        let mut answer = serde_json::json!({ "token": token });
        if *method == Method::POST {
            answer = serde_json::json!({ "access_token": token });
        }
        if let Some(seconds) = expires_in {
            answer["expires_in"] = seconds.into();
        }
        Ok(answer.to_string())
    }
}

/// The pairs of a query or a form.
pub(crate) fn parse(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = text.bytes();
        let mut decoded = Vec::new();
        while let Some(byte) = bytes.next() {
            let hex: Option<u8> = (byte == b'%')
                .then(|| [bytes.next(), bytes.next()])
                .and_then(|digits| Some([digits[0]?, digits[1]?]))
                .and_then(|digits| u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok());
            decoded.push(hex.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        }
        String::from_utf8_lossy(&decoded).into_owned()
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// The user and password of a Basic header.
pub(crate) fn basic(authorization: &str) -> Option<(String, String)> {
    use base64::Engine as _;
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(authorization.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(user, password)| (user.into(), password.into()))
}
