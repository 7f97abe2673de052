//! Who belongs to the cluster, and how it is shown.
//!
//! The scheduler's [`Authority`] makes a host's key a member: for a [`JoinToken`]'s secret it signs a certificate, with
//! which the host speaks to the scheduler, and a [`Ticket`], which it shows to its peers. A host that has neither knows
//! the authority by the hash in the token. A Kubernetes service account's token ([`ServiceAccountToken`]) can take the
//! secret's place. Nothing here opens a connection; key and token files are all that touches a disk.

mod authority;
mod doorstep;
mod error;
pub mod file;
mod host_key;
mod peer_key;
mod places;
mod refusals;
mod service_account;
mod ticket;
mod token;
mod verifier;

pub use authority::{Authority, CERTIFICATE_LIFETIME, HostCredentials, TICKET_LIFETIME};
pub use doorstep::{Doorstep, Turn, row};
pub use error::{AuthorityError, AuthorityHashError, ServiceAccountTokenError, TokenError};
pub use host_key::HostKey;
pub use peer_key::{PeerKey, PeerKeyError};
pub use places::{Place, Places};
pub use refusals::Refusals;
pub use service_account::ServiceAccountToken;
pub use ticket::{CLOCK_LEEWAY, Ticket, TicketError, TicketKey};
pub use token::{AuthorityHash, JoinSecret, JoinToken, SecretHash};
pub use verifier::{SERVER_NAME, client_config};
