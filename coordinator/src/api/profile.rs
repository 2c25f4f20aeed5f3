//! Profiles: one file with all that somebody needs to work with a coordinator.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{pin::Pin, store::record::TokenRole};

/// The version of a profile's file.
pub const PROFILE_VERSION: u32 = 1;

/// `POST /profiles`: makes a token, and a file of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateProfile {
    /// What it allows; a machine joins with a token of its own kind instead.
    pub role: TokenRole,
    /// The person or program it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The life of its token in seconds; thirty days if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// Where the coordinators are, the first one first, each with the pin of its key behind a `#`; those that share the store
    /// if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
}

/// The file: where the coordinators are, how they are known, and a token that expires. It is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// [`PROFILE_VERSION`].
    pub lull_profile: u32,
    /// The name of its token.
    pub name: String,
    pub role: TokenRole,
    /// The first that answers is asked.
    pub servers: Vec<ServerAddress>,
    pub token: String,
    pub expires: jiff::Timestamp,
}

impl fmt::Debug for ProfileFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileFile").field("name", &self.name).field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// One coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerAddress {
    pub url: String,
    /// The pin of its key; without it the system's roots say whom to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
}
