//! What the operator says of traces: where they go, and how many of them.
//!
//! The daemon's and the scheduler's configuration have these as the values of keys and flags.

use serde::Deserialize;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What is told of traces. By default there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Where they go. Default: nowhere, and then none are made.
    pub endpoint: Option<Endpoint>,
    /// Which share of the requests that belong to nobody's trace yet begins one. Default 0.01.
    pub sample_ratio: SampleRatio,
}

/// A collector that takes OTLP by gRPC: `http://HOST:PORT`, or `https://HOST:PORT` where TLS is spoken.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint(http::Uri);

/// Text that is no [`Endpoint`]. It is not quoted: a URL may have a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be of the form http://HOST:PORT or https://HOST:PORT, where a collector takes OTLP by gRPC")]
pub struct EndpointError;

impl Endpoint {
    /// The URL.
    #[must_use]
    pub const fn uri(&self) -> &http::Uri {
        &self.0
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == Some(&http::uri::Scheme::HTTPS)
    }

    /// Whether what is sent there can be read on its way: without TLS, and to another machine.
    #[must_use]
    pub fn is_in_the_clear(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        !self.is_https() && !here
    }
}

/// What a flag or a variable of the environment says of an [`Endpoint`]: not parsed by the command line, which would quote
/// a mistake in it, and with that a password.
#[derive(Clone)]
pub struct EndpointText(String);

impl EndpointText {
    /// The collector that it names.
    ///
    /// # Errors
    /// If it names none.
    pub fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        self.0.parse()
    }
}

impl FromStr for EndpointText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for EndpointText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointText(…)")
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: http::Uri = text.parse().map_err(|_| EndpointError)?;
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|host| !host.is_empty());
        let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let path = uri.path_and_query().is_some_and(|path| path.as_str() != "/");
        let good = scheme && host && !user && !path && uri.port_u16().is_some_and(|port| port > 0);
        if good { Ok(Self(uri)) } else { Err(EndpointError) }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", http::uri::Authority::as_str);
        write!(f, "{}://{authority}", self.0.scheme_str().unwrap_or("http"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// A share of the requests: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct SampleRatio(f64);

/// A number that is no [`SampleRatio`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 0 to 1")]
pub struct SampleRatioError;

impl SampleRatio {
    /// For a program that begins no traces.
    pub const NONE: Self = Self(0.0);

    /// The share.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// One request in a hundred. Each pull is about ten of them, and each piece of one that is recorded makes two spans: of a
/// thousand nodes that pull an image at once a hundred requests are recorded, which is enough to see a slow part.
impl Default for SampleRatio {
    fn default() -> Self {
        Self(0.01)
    }
}

impl TryFrom<f64> for SampleRatio {
    type Error = SampleRatioError;

    fn try_from(ratio: f64) -> Result<Self, SampleRatioError> {
        if (0.0..=1.0).contains(&ratio) { Ok(Self(ratio)) } else { Err(SampleRatioError) }
    }
}

impl FromStr for SampleRatio {
    type Err = SampleRatioError;

    fn from_str(text: &str) -> Result<Self, SampleRatioError> {
        text.parse::<f64>().map_err(|_| SampleRatioError)?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_scheme_a_host_and_a_port_and_nothing_else() {
        let good =
            ["http://collector:4317", "https://otel.example:443", "http://[::1]:4317", "http://10.0.0.1:1/"];
        for good in good {
            let endpoint: Endpoint = good.parse().unwrap();
            assert_eq!(endpoint.to_string(), good.trim_end_matches('/'));
            assert_eq!(endpoint.is_https(), good.starts_with("https"));
        }
        for bad in [
            "",
            "collector",
            "collector:4317",
            "http://collector",
            "http://:4317",
            "http://collector:0",
            "http://collector:70000",
            "ftp://collector:4317",
            "http://collector:4317/v1/traces",
            "http://collector:4317/?token=hunter2",
            "http://collector:4317?token=hunter2",
            "http://user:hunter2@collector:4317",
            "http://collector:4317 ",
        ] {
            let text: EndpointText = bad.parse().unwrap();
            let error = text.endpoint().expect_err(bad);
            assert!(!format!("{text:?} {error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_collector_elsewhere_without_tls_is_in_the_clear() {
        for (url, in_the_clear) in [
            ("http://collector:4317", true),
            ("http://10.0.0.1:4317", true),
            ("http://[fd00::1]:4317", true),
            ("http://localhost.example:4317", true),
            ("https://collector:4317", false),
            ("http://localhost:4317", false),
            ("http://127.0.0.2:4317", false),
            ("http://[::1]:4317", false),
        ] {
            assert_eq!(url.parse::<Endpoint>().unwrap().is_in_the_clear(), in_the_clear, "{url}");
        }
    }

    #[test]
    fn ratios_are_from_0_to_1() {
        for (text, ratio) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
            assert_eq!(text.parse(), Ok(SampleRatio(ratio)), "{text}");
        }
        for bad in ["", "-0.1", "1.01", "NaN", "inf", "1%", "half"] {
            assert_eq!(bad.parse::<SampleRatio>(), Err(SampleRatioError), "{bad}");
        }
    }

    #[test]
    fn both_are_read_from_a_file() {
        #[derive(Debug, Deserialize)]
        struct Table {
            endpoint: Endpoint,
            sample_ratio: SampleRatio,
        }
        let read = |text: &str| toml::from_str::<Table>(text).map_err(|error| error.message().to_owned());
        let table = read("endpoint = \"http://collector:4317\"\nsample_ratio = 1").unwrap();
        assert_eq!(table.endpoint.to_string(), "http://collector:4317");
        assert_eq!(table.sample_ratio, SampleRatio(1.0));
        for (bad, why) in [
            ("endpoint = \"collector:4317\"\nsample_ratio = 1", EndpointError.to_string()),
            ("endpoint = \"http://c:1\"\nsample_ratio = 2", SampleRatioError.to_string()),
        ] {
            assert!(read(bad).expect_err(bad).contains(&why), "{bad}");
        }
    }
}
