//! The answer of `lull db check`: what is there and what is missing, in words.

use lull_shared::hint;
use serde::Serialize;

/// `odd`: the server runs, but somebody should look at it; `bad`: it does not run like this.
pub use crate::api::Verdict;

/// How a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which store was looked at.
    pub store: String,
    /// The version that the database is at; none if it is empty or could not be read.
    pub version: Option<u32>,
    /// The version that this program needs.
    pub version_needed: u32,
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Check {
    /// Nothing was looked at yet.
    pub fn new(store: String, version_needed: u32) -> Self {
        Self { store, version: None, version_needed, findings: Vec::new() }
    }

    /// Adds a finding.
    pub fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Whether a server can run on this store.
    pub fn is_usable(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Bad)
    }
}

impl Finding {
    /// All is well.
    pub fn good(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Good, text: text.into(), hint: None }
    }

    /// Something that should be looked at.
    pub fn odd(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Odd, text: text.into(), hint: Some(hint.into()) }
    }

    /// Something that keeps the server from running.
    pub fn bad(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, text: text.into(), hint: Some(hint.into()) }
    }

    /// A look that failed; the words may bring a hint of their own behind `hint:`.
    pub fn failed(words: &str) -> Self {
        let (text, hint) = hint::split(words);
        Self { verdict: Verdict::Bad, text: text.to_owned(), hint: hint.map(ToOwned::to_owned) }
    }
}
