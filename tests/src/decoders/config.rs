//! `agent.toml`, as an administrator wrote it.

use std::path::Path;

use lull_agent::config::{Config, parse_label};
use lull_shared::limits;

use super::memory::bounded;

/// A file's text.
///
/// Settings that are accepted can be used as they are; others are refused in words that name the file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match bounded(bytes.len(), || Config::parse(text, Path::new("agent.toml"))) {
        Ok(config) => {
            assert!(config.check().is_ok(), "it stays right");
            assert!(config.slots.is_none_or(|slots| (1..=limits::SLOTS_PER_AGENT_MAX).contains(&slots)));
            assert!(config.labels.len() <= limits::LABELS_MAX);
            let cpu = config.rules().cpu;
            assert!(cpu.is_none_or(|cpu| cpu.resume_percent <= cpu.pause_percent && cpu.pause_percent <= 100));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok((key, value)) = parse_label(text) {
        assert!(text.contains(&key) && text.contains(&value));
    }
}
