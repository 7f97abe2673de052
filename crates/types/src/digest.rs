//! An OCI content digest: `sha256:<hex>` or `sha512:<hex>` (OCI image specification, "Descriptors: digests").

use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// The hash functions that the OCI image specification registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// FIPS 180-4, 64-byte blocks.
    Sha256,
    /// FIPS 180-4, 128-byte blocks.
    Sha512,
}

impl Algorithm {
    /// The digest's length in bytes, which is the length of the hash's state as well.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The name before the colon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// The digest of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 64],
}

/// Text or bytes that are no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("a digest looks like sha256:<hex>")]
    Form,
    /// A hash function other than the registered ones.
    #[error("unsupported digest algorithm {0:?}")]
    Algorithm(String),
    /// The wrong number of digits, or a digit that is not lower-case hexadecimal.
    #[error("a {algorithm} digest has {expected} lower-case hexadecimal digits", algorithm = .0.name(), expected = .0.digest_len() * 2)]
    Encoded(Algorithm),
}

impl Digest {
    /// A digest of `algorithm` with these bytes.
    ///
    /// # Errors
    /// If the number of bytes is not the algorithm's.
    pub fn new(algorithm: Algorithm, digest: &[u8]) -> Result<Self, DigestError> {
        if digest.len() != algorithm.digest_len() {
            return Err(DigestError::Encoded(algorithm));
        }
        let mut bytes = [0; 64];
        bytes[..digest.len()].copy_from_slice(digest);
        Ok(Self { algorithm, bytes })
    }

    /// The SHA-256 digest of `content`.
    #[must_use]
    pub fn sha256(content: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&sha2::Sha256::digest(content));
        Self { algorithm: Algorithm::Sha256, bytes }
    }

    /// Whether this is the digest of `content`.
    #[must_use]
    pub fn matches(&self, content: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::Sha256 => sha2::Sha256::digest(content)[..] == *self.as_bytes(),
            Algorithm::Sha512 => sha2::Sha512::digest(content)[..] == *self.as_bytes(),
        }
    }

    /// The hash function.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash's value: 32 or 64 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }

    /// The part after the colon, in hexadecimal.
    #[must_use]
    pub fn encoded(&self) -> String {
        hex::encode(self.as_bytes())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, encoded) = text.split_once(':').ok_or(DigestError::Form)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm(name.chars().take(32).collect())),
        };
        let lower = encoded.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !lower || encoded.len() != algorithm.digest_len() * 2 {
            return Err(DigestError::Encoded(algorithm));
        }
        let mut bytes = [0; 64];
        hex::decode_to_slice(encoded, &mut bytes[..algorithm.digest_len()])
            .map_err(|_| DigestError::Encoded(algorithm))?;
        Ok(Self { algorithm, bytes })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.encoded())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}:{}…)", self.algorithm.name(), &self.encoded()[..12])
    }
}
