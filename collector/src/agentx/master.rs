//! Where a master agent listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// Address of a master agent, written as a path (`/var/agentx/master`) or as `tcp:ADDR:PORT` (`tcp:127.0.0.1:705`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Master {
    /// Path of a Unix socket.
    Unix(PathBuf),
    /// A TCP address; 705 is AgentX's port (RFC 2741 section 8.1.1).
    Tcp(SocketAddr),
}

/// Why a text is no address of a master agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither the path of a socket, such as /var/agentx/master, nor tcp:ADDR:PORT, such as tcp:127.0.0.1:705"
)]
pub struct ParseMasterError(String);

impl FromStr for Master {
    type Err = ParseMasterError;

    fn from_str(text: &str) -> Result<Self, ParseMasterError> {
        let wrong = || ParseMasterError(text.to_owned());
        match text.split_once(':') {
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| wrong()),
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            _ if text.starts_with('/') => Ok(Self::Unix(text.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl<'de> Deserialize<'de> for Master {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in ["/var/agentx/master", "tcp:127.0.0.1:705", "tcp:[::1]:705"] {
            assert_eq!(text.parse::<Master>().unwrap().to_string(), text);
        }
        assert_eq!("unix:/a".parse(), Ok(Master::Unix("/a".into())));
        for text in ["", "master", "tcp:705", "tcp:localhost:705", "udp:127.0.0.1:705", "unix:a", "127.0.0.1:705"] {
            assert_eq!(text.parse::<Master>(), Err(ParseMasterError(text.to_owned())));
        }
    }
}
