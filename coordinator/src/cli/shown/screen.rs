//! Draws something again and again: in place on a terminal, one after the other elsewhere.

use std::io::IsTerminal as _;

use crate::cli::{
    exit::Failure,
    shown::output::{Format, Output},
};

/// Clears the terminal and goes to its beginning.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Where it is drawn.
pub struct Screen {
    out: Output,
    in_place: bool,
    last: Option<String>,
}

impl Screen {
    /// On standard output.
    pub fn new(out: Output) -> Self {
        let in_place = out.format == Format::Table && std::io::stdout().is_terminal();
        Self { out, in_place, last: None }
    }

    /// Shows this text, unless it is what is there.
    pub fn show(&mut self, text: &str) -> Result<(), Failure> {
        if self.last.as_deref() == Some(text) {
            return Ok(());
        }
        self.out.print(&if self.in_place { format!("{CLEAR}{text}") } else { text.to_owned() })?;
        self.last = Some(text.to_owned());
        Ok(())
    }
}
