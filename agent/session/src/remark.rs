//! What people may look for in the agent's log. Nothing follows from it.

use lull_shared::{
    id::AttemptId,
    identity::ClaimError,
    state::{Part, Trouble},
};

/// Something worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// A snapshot cannot be used: the attempt begins again.
    BeginsAnew { attempt: AttemptId, reason: String },
    /// Nothing new is begun until this works again.
    Trouble(Trouble),
    /// It works again: this part was the last that did not.
    Works(Part),
    /// A policy was not taken.
    PolicyRefused(PolicyRefused),
}

/// Why a policy is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefused {
    #[error("it is not for this agent, or contradicts itself")]
    Unfit,
    #[error("nobody vouches for it: {0}")]
    Claim(ClaimError),
    #[error("it is version {0}, and a newer one holds")]
    Old(u64),
}
