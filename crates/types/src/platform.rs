//! What an image is made for, in the words of the OCI image index, which are Go's: `linux/amd64`, `linux/arm/v7`.
//!
//! A host tells the scheduler its own, operators name some, and indexes offer images for them.

use std::fmt;
use std::str::FromStr;

/// An operating system and a processor, `OS/ARCH[/VARIANT]`; without a variant any of them is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: Box<str>,
    architecture: Box<str>,
    variant: Option<Box<str>>,
}

/// Text that is no [`Platform`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a platform looks like linux/amd64 or linux/arm/v7")]
pub struct PlatformError;

impl Platform {
    /// The longest text that is one, in bytes.
    pub const LEN_MAX: usize = 64;

    /// That of the machine that this runs on.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::in_rusts_words(std::env::consts::OS, std::env::consts::ARCH)
    }

    /// From Rust's words; a name that both have is left as it is.
    fn in_rusts_words(os: &str, architecture: &str) -> Self {
        let os = match os {
            "macos" => "darwin",
            same => same,
        };
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            same => same,
        };
        Self { os: os.into(), architecture: architecture.into(), variant: None }
    }

    /// As an index has it, whoever made that: characters that no platform has are dropped, and of each part what is beyond
    /// [`Self::LEN_MAX`]. Nothing if it names none.
    #[must_use]
    pub fn offered(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let (os, architecture) = (clean(os), clean(architecture));
        let variant = variant.map(clean).filter(|variant| !variant.is_empty());
        let named = !os.is_empty() && !architecture.is_empty();
        named.then_some(Self { os, architecture, variant })
    }

    /// Whether what is made for `offered` is what is wanted for this platform; without a variant any will do.
    #[must_use]
    pub fn accepts(&self, offered: &Self) -> bool {
        let variant = self.variant.is_none() || self.variant == offered.variant;
        self.os == offered.os && self.architecture == offered.architecture && variant
    }

    /// Whether it says that it is none: what build tools put beside images.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        &*self.os == "unknown" && &*self.architecture == "unknown"
    }
}

fn clean(part: &str) -> Box<str> {
    part.chars().filter(|c| is_good(*c)).take(Platform::LEN_MAX).collect()
}

const fn is_good(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let good = |part: &&str| !part.is_empty() && part.chars().all(is_good);
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(PlatformError),
        };
        if text.len() > Self::LEN_MAX || ![os, architecture].iter().chain(&variant).all(good) {
            return Err(PlatformError);
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
        let long = format!("linux/{}", "a".repeat(Platform::LEN_MAX));
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d", "a/b c", "a/\u{e9}", &long] {
            assert_eq!(bad.parse::<Platform>(), Err(PlatformError), "{bad}");
        }
    }

    #[test]
    fn machines_have_the_words_of_the_image_index() {
        let power = if cfg!(target_endian = "little") { "ppc64le" } else { "ppc64" };
        for (architecture, word) in [
            ("x86_64", "amd64"),
            ("aarch64", "arm64"),
            ("arm", "arm"),
            ("x86", "386"),
            ("powerpc64", power),
            ("riscv64", "riscv64"),
            ("s390x", "s390x"),
            ("loongarch64", "loong64"),
        ] {
            assert_eq!(Platform::in_rusts_words("linux", architecture), platform(&format!("linux/{word}")));
        }
        assert_eq!(Platform::in_rusts_words("macos", "aarch64"), platform("darwin/arm64"));
        let own = Platform::of_this_machine();
        assert_eq!(platform(&own.to_string()), own);
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
}
