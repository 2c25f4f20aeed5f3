//! The answer of `lull db check`: what is there and what is missing, in words.

use lull_shared::hint;
use serde::Serialize;

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
    pub grade: Grade,
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    Fine,
    /// The server runs, but somebody should look at it.
    Warning,
    /// The server does not run like this.
    Problem,
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
        self.findings.iter().all(|finding| finding.grade != Grade::Problem)
    }
}

impl Finding {
    /// All is well.
    pub fn fine(text: impl Into<String>) -> Self {
        Self { grade: Grade::Fine, text: text.into(), hint: None }
    }

    /// Something that should be looked at.
    pub fn warning(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { grade: Grade::Warning, text: text.into(), hint: Some(hint.into()) }
    }

    /// Something that keeps the server from running.
    pub fn problem(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { grade: Grade::Problem, text: text.into(), hint: Some(hint.into()) }
    }

    /// A look that failed; the words may bring a hint of their own behind `hint:`.
    pub fn failed(words: &str) -> Self {
        let (text, hint) = hint::split(words);
        Self { grade: Grade::Problem, text: text.to_owned(), hint: hint.map(ToOwned::to_owned) }
    }
}
