//! Who belongs to the cluster, and how it is shown.
//!
//! The scheduler's [`Authority`] makes a host's key a member: for a [`JoinToken`]'s secret it signs a certificate, with
//! which the host speaks to the scheduler, and a [`Ticket`], which it shows to its peers. A host that has neither knows
//! the authority by the hash in the token. Nothing here opens a connection; the key files are all that touches a disk.

mod authority;
mod doorstep;
mod error;
pub mod file;
mod host_key;
mod peer_key;
mod places;
mod ticket;
mod token;
mod verifier;

pub use authority::{Authority, CERTIFICATE_LIFETIME, HostCredentials, TICKET_LIFETIME};
pub use doorstep::{Doorstep, Turn};
pub use error::{AuthorityError, TokenError};
pub use host_key::HostKey;
pub use peer_key::{PeerKey, PeerKeyError};
pub use places::{Place, Places};
pub use ticket::{CLOCK_LEEWAY, Ticket, TicketError, TicketKey};
pub use token::{AuthorityHash, JoinSecret, JoinToken, SecretHash};
pub use verifier::{SERVER_NAME, client_config};
