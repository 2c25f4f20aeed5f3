//! Publications: the work between a module that was sent and a version.

use std::{fmt, str::FromStr};

use lull_shared::{amount::quoted, digest::Digest};
use serde::{Deserialize, Serialize};

use super::{ErrorDetail, PublishOptions, PublishedBody};

/// Names one publication: drawn at random, so that none is taken for another after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicationId(pub u64);

lull_shared::readable!(PublicationId, u64, |id| id.0, Self);

impl fmt::Display for PublicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:016x}", self.0)
    }
}

/// A text that names no publication.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} does not name a publication\nhint: write it as `lull func publish` did, like p00c0ffee00c0ffee", quoted(.0))]
pub struct NoPublication(String);

impl FromStr for PublicationId {
    type Err = NoPublication;

    fn from_str(text: &str) -> Result<Self, NoPublication> {
        let digits = text.strip_prefix('p').filter(|digits| digits.len() == 16);
        // A sign is no digit.
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or_else(|| NoPublication(text.to_owned()))
    }
}

/// `POST /functions/{name}/publications`: the module is a blob that was uploaded before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    pub module: Digest,
    #[serde(default)]
    pub options: PublishOptions,
}

/// How a publication stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublicationState {
    /// Others are worked on first.
    Waiting,
    Working,
    Published,
    /// It is not published, and `error` says why.
    Failed,
    Cancelled,
}

impl PublicationState {
    /// Whether nothing changes any more.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Waiting | Self::Working => false,
            Self::Published | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// `GET /publications/{publication}`, and the answer of the request that began it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationBody {
    pub publication: PublicationId,
    pub function: String,
    pub module: Digest,
    pub options: PublishOptions,
    pub state: PublicationState,
    /// Whether it was under way already when it was asked for.
    #[serde(default)]
    pub joined: bool,
    /// While it waits: how many come before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u32>,
    /// While it is worked on: what is being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Rises with every change; asking with it as `seen` waits for the next one.
    pub revision: u64,
    pub begun: jiff::Timestamp,
    pub by: String,
    /// What was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedBody>,
    /// Why nothing was, and the status that an answer with this error has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_named_as_it_is_written() {
        let id = PublicationId(0xc0ffee);
        assert_eq!(id.to_string(), "p0000000000c0ffee");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["p1", "0000000000c0ffee", "p+000000000c0ffee", "pxxxxxxxxxxxxxxxx", ""] {
            assert_eq!(wrong.parse::<PublicationId>(), Err(NoPublication(wrong.into())), "{wrong}");
        }
    }
}
