//! `WWW-Authenticate`: what a registry asks for (RFC 9110, section 11.6.1).

use http::{HeaderMap, HeaderValue, header};

/// The longest header that is parsed, in bytes.
const LEN_MAX: usize = 8 * 1024;

/// How many challenges of an answer are kept.
const COUNT_MAX: usize = 8;

/// What the registry asks for, as far as it is understood here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from the realm.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// A name and a password.
    Basic,
}

/// The challenge headers of an answer as they came, to be relayed.
pub(crate) fn headers(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(header::WWW_AUTHENTICATE).iter().take(COUNT_MAX).cloned().collect()
}

/// The challenge to answer: Bearer before Basic.
pub(crate) fn choose(headers: &[HeaderValue]) -> Option<Challenge> {
    let texts = headers.iter().filter_map(|value| value.to_str().ok()).filter(|text| text.len() <= LEN_MAX);
    let challenges: Vec<Challenge> = texts.flat_map(parse).collect();
    let bearer = challenges.iter().find(|c| matches!(c, Challenge::Bearer { .. }));
    bearer.or_else(|| challenges.first()).cloned()
}

/// All challenges of one header that are understood.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut current: Option<(&str, Vec<(String, String)>)> = None;
    let mut parser = Parser { rest: text };
    while let Some(word) = parser.word() {
        match parser.value() {
            Some(value) => {
                if let Some((_, params)) = &mut current {
                    params.push((word.to_ascii_lowercase(), value));
                }
            }
            None => found.extend(current.replace((word, Vec::new())).and_then(finish)),
        }
    }
    found.extend(current.and_then(finish));
    found
}

fn finish((scheme, params): (&str, Vec<(String, String)>)) -> Option<Challenge> {
    let get = |key: &str| params.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    let realm = get("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
    Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") })
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }

    /// The next scheme or parameter's name. What is neither ends the header.
    fn word(&mut self) -> Option<&'a str> {
        self.skip();
        let end = self.rest.find([' ', '\t', ',', '=', '"']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The value after a parameter's name, quoted or not; nothing after a scheme.
    fn value(&mut self) -> Option<String> {
        let rest =
            self.rest.trim_start_matches([' ', '\t']).strip_prefix('=')?.trim_start_matches([' ', '\t']);
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find([' ', '\t', ',']).unwrap_or(rest.len());
            self.rest = &rest[end..];
            return Some(rest[..end].to_owned());
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = &quoted[at + 1..];
                    return Some(value);
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => value.push(char),
            }
        }
        self.rest = "";
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn challenges_of_real_registries() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;
        let harbor = r#"Bearer realm="https://h.example/service/token",service="harbor-registry",scope="repository:a/b:pull,push""#;
        let quay = r#"Bearer realm="https://quay.io/v2/auth",service="quay.io""#;
        for (header, expected) in [
            (
                hub,
                Some(bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/nginx:pull"),
                )),
            ),
            (
                harbor,
                Some(bearer(
                    "https://h.example/service/token",
                    Some("harbor-registry"),
                    Some("repository:a/b:pull,push"),
                )),
            ),
            (quay, Some(bearer("https://quay.io/v2/auth", Some("quay.io"), None))),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (r#"Basic realm="x", Bearer realm="https://r/t""#, Some(bearer("https://r/t", None, None))),
            (r#"bearer REALM = "https://r/t" , service=s"#, Some(bearer("https://r/t", Some("s"), None))),
            (r#"Bearer realm="a\"b""#, Some(bearer("a\"b", None, None))),
            (r#"Bearer realm="unclosed"#, Some(bearer("unclosed", None, None))),
            ("Bearer", None),
            ("Negotiate abc==", None),
            ("", None),
            ("=\"", None),
        ] {
            let headers = if header.is_empty() { vec![] } else { vec![HeaderValue::from_static(header)] };
            assert_eq!(choose(&headers), expected, "{header}");
        }
    }

    #[test]
    fn several_headers() {
        let headers = [
            HeaderValue::from_static(r#"Basic realm="x""#),
            HeaderValue::from_static(r#"Bearer realm="https://r/t""#),
        ];
        assert_eq!(choose(&headers), Some(bearer("https://r/t", None, None)));
    }
}
