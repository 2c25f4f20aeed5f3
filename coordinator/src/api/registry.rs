//! Tokens and the audit.

use lull_shared::id::TokenId;
use serde::{Deserialize, Serialize};

use crate::store::record::TokenRole;

/// `POST /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    pub role: TokenRole,
    /// The person or program it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many machines may enrol with it; one if left out. Only for the role `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_max: Option<u32>,
    /// Its life in seconds; without it a join token lives for a week and any other for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// Names of the machines that may join with it, or patterns with `*`; without them all may. Only for the role `agent`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The group that they are put into: the label `group`. Only for the role `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl CreateToken {
    /// A token of this role, with nothing else asked for.
    pub const fn of(role: TokenRole) -> Self {
        Self { role, name: None, uses_max: None, expires_s: None, names: Vec::new(), group: None }
    }
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBody {
    pub token: TokenId,
    pub role: TokenRole,
    pub name: String,
    /// Names of the machines that may join with it, or patterns; none: all may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub uses: u32,
    pub uses_max: Option<u32>,
    pub created: jiff::Timestamp,
    pub created_by: String,
    pub expires: Option<jiff::Timestamp>,
    pub revoked: Option<jiff::Timestamp>,
    /// It is the one that whoever asks has shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

/// A token that was just made; its text is never shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedToken {
    #[serde(flatten)]
    pub token: TokenBody,
    /// What to hand over: a join token for an agent, a bearer token for anybody else.
    pub text: String,
}

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBody {
    pub at: jiff::Timestamp,
    pub by: String,
    pub action: String,
    pub subject: String,
    pub detail: String,
}
