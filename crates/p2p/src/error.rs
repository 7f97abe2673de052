//! What can go wrong, and whose fault it is.

use crate::Refusal;
use membership::TicketError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use types::{FetchFailure, HostId};

/// The peer-to-peer side cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum P2pError {
    /// An option is out of bounds.
    #[error("option {option}: {why}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What it must be.
        why: &'static str,
    },
    /// Another program listens on the address, or it is not this host's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address from the options.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The key file cannot be read or written, or others than its owner could.
    #[error("key file {}", path.display())]
    KeyFile {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The key file holds no ed25519 key.
    #[error("key file {} holds no ed25519 key in libp2p's protobuf encoding", path.display())]
    KeyForm {
        /// Where.
        path: PathBuf,
    },
    /// The TLS configuration cannot be built from the identity.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The control swarm cannot be built.
    #[error("cannot set up the control transport: {0}")]
    Control(String),
}

/// A member that cannot be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// There are as many as there may be.
    #[error("there are already {max} members")]
    Full {
        /// How many there may be.
        max: usize,
    },
    /// The host id is not the hash of the peer id.
    #[error("host {host} is not the hash of its peer id")]
    Identity {
        /// The host id given.
        host: HostId,
    },
    /// The bytes are no libp2p peer id.
    #[error("host {host} has a malformed peer id")]
    PeerId {
        /// The host id given.
        host: HostId,
    },
}

/// No usable connection to a parent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The TCP connection was refused, or the network does not reach there.
    #[error("cannot connect to {address}")]
    Dial {
        /// The parent's bulk address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// No answer within the time for `step`.
    #[error("no answer from {address} during {step}")]
    TimedOut {
        /// The parent's bulk address.
        address: SocketAddr,
        /// What was waited for.
        step: &'static str,
    },
    /// Another peer than the expected one answers there.
    #[error("another peer answers at {address}")]
    WrongPeer {
        /// The parent's bulk address.
        address: SocketAddr,
    },
    /// What answers does not speak libp2p's TLS.
    #[error("TLS handshake with {address} failed")]
    Handshake {
        /// The parent's bulk address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection broke before the piece was complete.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

/// The parent breaks the rules of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The parent speaks no version that we do.
    #[error("protocol version {theirs}, ours is {ours}")]
    Version {
        /// What it said.
        theirs: u16,
        /// The newest that we speak.
        ours: u16,
    },
    /// A frame announces more than its bound.
    #[error("{frame} of {len} bytes, at most {max}")]
    TooLong {
        /// Which frame.
        frame: &'static str,
        /// What it announces.
        len: u32,
        /// Its bound.
        max: u32,
    },
    /// The answer has another length than the piece.
    #[error("an answer of {got} bytes to a request for {expected}")]
    Length {
        /// The piece's length in bytes.
        expected: u32,
        /// The length announced.
        got: u32,
    },
    /// A byte that stands for nothing.
    #[error("unknown {field} {value}")]
    Unknown {
        /// What it should stand for.
        field: &'static str,
        /// The byte.
        value: u8,
    },
}

/// A piece did not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The parent says no, or too many requests to it wait here already ([`Refusal::Busy`]).
    #[error("refused: {0}")]
    Refused(Refusal),
    /// No connection, or it broke. The parent's or the network's fault.
    #[error("unreachable: {0}")]
    Unreachable(#[from] ConnectError),
    /// Connected, but no progress for the stall time-out.
    #[error("stalled after {bytes} bytes")]
    Stalled {
        /// How many bytes of the piece had come.
        bytes: u32,
    },
    /// The parent breaks the protocol. Not to be asked again.
    #[error("protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The scheduler has not named this parent, or has taken it back.
    #[error("the parent is no member")]
    NotMember,
    /// The parent does not show a good ticket.
    #[error("the parent shows {0}")]
    Ticket(#[from] TicketError),
    /// This host is stopping.
    #[error("stopping")]
    Stopping,
}

impl FetchError {
    /// The same in the words in which the scheduler is told.
    #[must_use]
    pub fn failure(&self) -> FetchFailure {
        match self {
            Self::Refused(Refusal::NotHeld) => FetchFailure::NotHeld,
            Self::Refused(Refusal::Busy) => FetchFailure::Busy,
            Self::Refused(Refusal::NotAllowed) => FetchFailure::NotAllowed,
            Self::Unreachable(_) | Self::Protocol(_) | Self::NotMember | Self::Ticket(_) => {
                FetchFailure::Unreachable
            }
            Self::Stalled { .. } => FetchFailure::Stalled,
            Self::Refused(Refusal::Malformed) | Self::Stopping => FetchFailure::Local,
        }
    }
}
