//! Platforms in the words of the OCI image index: `linux/amd64`, `linux/arm/v7`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The longest, in bytes: hosts say none that is longer either.
const LEN_MAX: usize = 64;

/// The most platforms that one preheat is for.
pub(crate) const PLATFORMS_MAX: usize = 16;

/// The most platforms of one image that are remembered, to be shown.
pub(crate) const OFFERED_MAX: usize = 64;

/// What stands for every platform that an image has.
const ALL: &str = "all";

/// What of a text that is no platform an error quotes, in characters.
const QUOTED_MAX: usize = 80;

/// An operating system and a processor, in Go's words; with a variant, or for any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Platform {
    os: Box<str>,
    architecture: Box<str>,
    variant: Option<Box<str>>,
}

/// Why a list of platforms makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlatformError {
    /// A text that is none.
    #[error("{0:?} is no platform: one looks like linux/amd64 or linux/arm/v7")]
    Form(String),
    /// All, and then some.
    #[error("\"{ALL}\" stands for every platform: name no other beside it")]
    AllAndMore,
    /// A list that is too long.
    #[error("at most {PLATFORMS_MAX} platforms can be named, or \"{ALL}\"")]
    TooMany,
}

impl Platform {
    /// As an index has it, whoever made that: characters that no platform has are dropped. Nothing if it names none.
    pub(crate) fn offered(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let clean = |part: &str| -> Box<str> { part.chars().filter(|c| is_good(*c)).take(LEN_MAX).collect() };
        let (os, architecture) = (clean(os), clean(architecture));
        let variant = variant.map(clean).filter(|variant| !variant.is_empty());
        let named = !os.is_empty() && !architecture.is_empty();
        named.then_some(Self { os, architecture, variant })
    }

    /// Whether what is made for `offered` is what is wanted for this platform; without a variant any will do.
    pub(crate) fn accepts(&self, offered: &Self) -> bool {
        let variant = self.variant.is_none() || self.variant == offered.variant;
        self.os == offered.os && self.architecture == offered.architecture && variant
    }

    /// Whether it says that it is none: what build tools put beside images.
    pub(crate) fn is_unknown(&self) -> bool {
        &*self.os == "unknown" && &*self.architecture == "unknown"
    }
}

const fn is_good(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let good = |part: &&str| !part.is_empty() && part.chars().all(is_good);
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => ("", "", None),
        };
        if text.len() > LEN_MAX || ![os, architecture].iter().chain(&variant).all(good) {
            return Err(PlatformError::Form(text.chars().take(QUOTED_MAX).collect()));
        }
        Ok(Self { os: os.into(), architecture: architecture.into(), variant: variant.map(Into::into) })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Which platforms hosts are to hold an image for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Platforms {
    /// Each its own.
    Own,
    /// Every one that the image has.
    All,
    /// These.
    These(BTreeSet<Platform>),
}

impl Platforms {
    /// As an operator names them.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, PlatformError> {
        match texts {
            [] => Ok(Self::Own),
            [all] if all == ALL => Ok(Self::All),
            texts if texts.iter().any(|text| text == ALL) => Err(PlatformError::AllAndMore),
            texts if texts.len() > PLATFORMS_MAX => Err(PlatformError::TooMany),
            texts => {
                let named = texts.iter().map(|text| text.parse::<Platform>());
                Ok(Self::These(named.collect::<Result<_, _>>()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn texts() {
        for good in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(platform(good).to_string(), good);
        }
        let long = format!("linux/{}", "a".repeat(LEN_MAX));
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d", "a/b c", "a/\u{e9}", &long] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variant_is_asked_for_or_any_will_do() {
        for (wanted, offered, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm/v7", "linux/arm", false),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
        ] {
            assert_eq!(platform(wanted).accepts(&platform(offered)), expected, "{wanted} {offered}");
        }
    }

    #[test]
    fn what_an_index_offers_steers_no_terminal() {
        let offered = |os, architecture, variant| Platform::offered(os, architecture, variant);
        assert_eq!(offered("linux", "arm", Some("v7")), Some(platform("linux/arm/v7")));
        assert_eq!(offered("linux", "amd64", Some("")), Some(platform("linux/amd64")));
        assert_eq!(offered("\u{1b}[2J", "x\n", None), Some(platform("2J/x")));
        assert_eq!(offered("", "amd64", None), None);
        assert!(offered("unknown", "unknown", None).is_some_and(|platform| platform.is_unknown()));
    }

    #[test]
    fn lists() {
        let parse = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            Platforms::parse(&texts)
        };
        assert_eq!(parse(&[]), Ok(Platforms::Own));
        assert_eq!(parse(&["all"]), Ok(Platforms::All));
        let two = BTreeSet::from([platform("linux/amd64"), platform("linux/arm64")]);
        assert_eq!(parse(&["linux/arm64", "linux/amd64", "linux/arm64"]), Ok(Platforms::These(two)));
        assert_eq!(parse(&["all", "linux/amd64"]), Err(PlatformError::AllAndMore));
        assert_eq!(parse(&["linux/amd64"; PLATFORMS_MAX + 1]), Err(PlatformError::TooMany));
        assert_eq!(parse(&["linux"]), Err(PlatformError::Form("linux".to_owned())));
    }
}
