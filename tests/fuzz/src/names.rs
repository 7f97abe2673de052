//! Names of repositories, tags, images, registries, and digests: from paths, arguments, configuration files and peers.
//!
//! What is taken as a name can go into a URL and a log as it is; what is refused is quoted within bounds.

use crate::input::Input;
use origin::{ImageName, Reference, Repository, RepositoryName, TagName, canonical};
use std::fmt::{Debug, Display};
use std::str::FromStr;
use types::{Digest, Registry};

/// More of a bad name than this is in no error, in bytes.
const QUOTED_MAX: usize = 2048;

/// The first byte says what the others are to be.
pub fn names(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.u8() % 6;
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    match kind {
        0 => {
            if let Some(name) = same::<RepositoryName>(text) {
                assert!(name.as_str().len() <= RepositoryName::LEN_MAX && !text.contains(".."), "{text}");
                plain(text, "/._-");
            }
        }
        1 => {
            if let Some(tag) = same::<TagName>(text) {
                assert!(tag.as_str().len() <= TagName::LEN_MAX && !text.starts_with('.'));
                plain(text, "._-");
            }
        }
        2 => {
            if let Some(reference) = same::<Reference>(text) {
                assert_eq!(reference.digest().is_some(), text.contains(':'));
            }
        }
        3 => image(text),
        4 => registry(text),
        _ => {
            if let Some(digest) = same::<Digest>(text) {
                assert_eq!(Digest::new(digest.algorithm(), digest.as_bytes()).ok(), Some(digest));
                assert_eq!(format!("{}:{}", digest.algorithm().name(), digest.encoded()), text);
            }
        }
    }
}

fn plain(text: &str, others: &str) {
    assert!(
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c)),
        "{text}"
    );
}

/// What is read and shows itself as it was written.
fn same<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            assert_eq!(value.to_string(), text);
            Some(value)
        }
        Err(error) => {
            refused(&error);
            None
        }
    }
}

fn refused(error: &impl Display) {
    let error = error.to_string();
    assert!(error.len() <= QUOTED_MAX, "{} bytes of error", error.len());
    assert!(!error.contains(|c: char| c.is_control()), "an error that steers a terminal: {error:?}");
}

fn image(text: &str) {
    let image = match text.parse::<ImageName>() {
        Ok(image) => image,
        Err(error) => return refused(&error),
    };
    plain(image.repository.name.as_str(), "/._-");
    let separator = if image.reference.digest().is_some() { '@' } else { ':' };
    let whole = format!("{}{separator}{}", image.repository, image.reference);
    assert_eq!(whole.parse::<ImageName>().as_ref(), Ok(&image), "{whole}");
}

fn registry(text: &str) {
    let registry = match Registry::parse(text) {
        Ok(registry) => registry,
        Err(error) => return refused(&error),
    };
    let name = registry.as_str();
    assert!(name.len() <= Registry::LEN_MAX);
    plain(name, ".-:[]");
    assert!(!name.contains(".."), "{name}");
    assert_eq!(Registry::parse(name).as_ref().ok(), Some(&registry), "a name is its own");
    let once = canonical(&registry);
    assert_eq!(canonical(&once), once, "what is canonical stays so");
    let repository = Repository::new(&registry, "a".parse().expect("a name"));
    assert_eq!(Repository::new(&repository.registry, repository.name.clone()), repository);
}
