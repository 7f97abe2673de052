//! Which platforms a preheat is for, as operators list them.

use std::collections::BTreeSet;

pub(crate) use types::Platform;

/// The most platforms that one preheat is for.
pub(crate) const PLATFORMS_MAX: usize = 16;

/// The most platforms of one image that are remembered, to be shown.
pub(crate) const OFFERED_MAX: usize = 64;

/// What stands for every platform that an image has.
const ALL: &str = "all";

/// What of a text that is no platform an error quotes, in characters.
const QUOTED_MAX: usize = 80;

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
                let form = |text: &String| text.parse::<Platform>().map_err(|_| PlatformError::form(text));
                Ok(Self::These(texts.iter().map(form).collect::<Result<_, _>>()?))
            }
        }
    }
}

impl PlatformError {
    fn form(text: &str) -> Self {
        Self::Form(text.chars().take(QUOTED_MAX).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let parse = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            Platforms::parse(&texts)
        };
        assert_eq!(parse(&[]), Ok(Platforms::Own));
        assert_eq!(parse(&["all"]), Ok(Platforms::All));
        let two = ["linux/amd64", "linux/arm64"].map(|text| text.parse::<Platform>().unwrap());
        assert_eq!(parse(&["linux/arm64", "linux/amd64", "linux/arm64"]), Ok(Platforms::These(two.into())));
        assert_eq!(parse(&["all", "linux/amd64"]), Err(PlatformError::AllAndMore));
        assert_eq!(parse(&["linux/amd64"; PLATFORMS_MAX + 1]), Err(PlatformError::TooMany));
        assert_eq!(parse(&["linux"]), Err(PlatformError::Form("linux".to_owned())));
    }
}
