//! Numbers of errors and of reasons in AgentX, and their names.

use std::fmt;

/// What a response says went wrong: an error status of SNMP (RFC 3416 section 3) or one of AgentX (RFC 2741 section
/// 6.2.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorStatus(pub u16);

impl ErrorStatus {
    /// Nothing.
    pub const NO_ERROR: Self = Self(0);
    /// The answer would be larger than a session sends.
    pub const TOO_BIG: Self = Self(1);
    /// Something that was tested cannot be set now.
    pub const COMMIT_FAILED: Self = Self(14);
    /// Nothing here can be set.
    pub const NOT_WRITABLE: Self = Self(17);
    /// There is no such session.
    pub const NOT_OPEN: Self = Self(257);
    /// Somebody has registered that region at that priority.
    pub const DUPLICATE_REGISTRATION: Self = Self(263);
    /// The request was no PDU.
    pub const PARSE_ERROR: Self = Self(266);
    /// The request was none that may be made.
    pub const PROCESSING_ERROR: Self = Self(268);
}

const SNMP: [&str; 19] = [
    "noError",
    "tooBig",
    "noSuchName",
    "badValue",
    "readOnly",
    "genErr",
    "noAccess",
    "wrongType",
    "wrongLength",
    "wrongEncoding",
    "wrongValue",
    "noCreation",
    "inconsistentValue",
    "resourceUnavailable",
    "commitFailed",
    "undoFailed",
    "authorizationError",
    "notWritable",
    "inconsistentName",
];

/// From 256.
const AGENTX: [&str; 13] = [
    "openFailed",
    "notOpen",
    "indexWrongType",
    "indexAlreadyAllocated",
    "indexNoneAvailable",
    "indexNotAllocated",
    "unsupportedContext",
    "duplicateRegistration",
    "unknownRegistration",
    "unknownAgentCaps",
    "parseError",
    "requestDenied",
    "processingError",
];

/// Its name, with its number if it has none.
impl fmt::Display for ErrorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = usize::from(self.0);
        match SNMP.get(number).or_else(|| AGENTX.get(number.checked_sub(256)?)) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {number}"),
        }
    }
}

/// Why a session ends (RFC 2741 section 6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReason(pub u8);

impl CloseReason {
    /// None of the others.
    pub const OTHER: Self = Self(1);
    /// Too many PDUs could not be parsed.
    pub const PARSE_ERROR: Self = Self(2);
    /// Too many answers were wrong.
    pub const PROTOCOL_ERROR: Self = Self(3);
    /// Too many answers came too late.
    pub const TIMEOUTS: Self = Self(4);
    /// The sender stops.
    pub const SHUTDOWN: Self = Self(5);
}

/// Its name, with its number if it has none.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "other",
            2 => "parseError",
            3 => "protocolError",
            4 => "timeouts",
            5 => "shutdown",
            6 => "byManager",
            number => return write!(f, "reason {number}"),
        })
    }
}
