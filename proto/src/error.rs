//! What can be wrong with a value that came over the wire.

use types::{DigestError, HostIdError, RegistryError};

/// A value from the wire that breaks a rule of the protocol. It is always the sender's fault, and never worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is not (or a variant is one that this program does not know).
    #[error("{field} is missing or unknown")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// An enum's value that is not one of its variants.
    #[error("{field} has no variant {value}")]
    Variant {
        /// The field's name.
        field: &'static str,
        /// What it says.
        value: i32,
    },
    /// More elements, or a longer text, than allowed.
    #[error("{field} has length {got}, more than {max}")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// Elements or bytes.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Bytes of a fixed length that have another.
    #[error("{field} has {got} bytes, not {expected}")]
    Length {
        /// The field's name.
        field: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes of the field.
        expected: usize,
    },
    /// A number outside its range.
    #[error("{field} is {value}, more than {max}")]
    TooLarge {
        /// The field's name.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// A digest of a wrong length.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A host id of a wrong length.
    #[error(transparent)]
    HostId(#[from] HostIdError),
    /// No registry name.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A piece that the blob does not have.
    #[error("piece {piece} of a blob of {count}")]
    Piece {
        /// Its number.
        piece: u32,
        /// How many the blob has.
        count: u32,
    },
    /// A set of pieces that is not one of this blob's.
    #[error("a set of {got} pieces for a blob of {expected}")]
    PieceCount {
        /// Pieces in the blob that the set is of.
        got: u32,
        /// Pieces in the blob.
        expected: u32,
    },
    /// Runs that overlap, are empty, or leave the blob.
    #[error("the runs of a piece set are malformed")]
    Runs,
    /// The bytes are no whole number of states.
    #[error("{bytes} bytes are no whole number of states of {state} bytes")]
    States {
        /// Bytes that came.
        bytes: usize,
        /// Bytes of a state.
        state: usize,
    },
    /// A range that ends before it starts.
    #[error("a range ends before it starts")]
    Range,
    /// A message about a key that the frame does not have.
    #[error("key {index} of {keys}")]
    Key {
        /// Its index.
        index: u32,
        /// How many there are.
        keys: usize,
    },
    /// No IP address and port.
    #[error("{field} is no address")]
    Address {
        /// The field's name.
        field: &'static str,
    },
}
