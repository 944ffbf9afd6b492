//! SNMPv3 with the User-based Security Model.

mod auth;
mod keys;
mod privacy;

pub use auth::{AuthProtocol, UnknownAuthProtocol};
pub use keys::{Key, PassphraseTooShort, SHORTEST_PASSPHRASE};
pub use privacy::{PrivProtocol, UnknownPrivProtocol};
