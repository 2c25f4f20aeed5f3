//! What a command is doing, on standard error: one line that changes on a terminal, and elsewhere a line for each step
//! that takes a while, so that nobody wonders for longer than a second.
//!
//! [`Steps`] are told how far they have come; a [`Stage`] says nothing of itself and is shown until it is dropped.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{task::JoinHandle, time::sleep};

use crate::cli::{shown::output::Output, typed::amount::spoken};

/// What is over sooner needs no words.
const SILENT: Duration = Duration::from_millis(800);
/// Between two lines about the same step, where nothing can be drawn over.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// Between two looks whether a line about a stage is due.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two pictures of the changing line.
const TICK: Duration = Duration::from_millis(100);

/// Shows steps. Dropping it takes the changing line away.
pub(crate) struct Steps {
    shown: Shown,
    begun: Instant,
}

enum Shown {
    Line(ProgressBar),
    Lines { out: Output, last: Option<(Instant, String)> },
    Nothing,
}

impl Steps {
    /// In the way that suits standard error.
    pub(crate) fn new(out: &Output) -> Self {
        let shown = if out.quiet {
            Shown::Nothing
        } else if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well formed"));
            // Its own thread draws it, whatever this one is busy with.
            bar.enable_steady_tick(TICK);
            Shown::Line(bar)
        } else {
            Shown::Lines { out: out.clone(), last: None }
        };
        Self { shown, begun: Instant::now() }
    }

    /// This is being done, and so far it has come. Called about once a second, so that the line lives.
    pub(crate) fn show(&mut self, step: &str, detail: &str) {
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Line(bar) => bar.set_message(format!("{step}{detail}")),
            Shown::Lines { out, last } => {
                let now = Instant::now();
                if is_due(now.duration_since(self.begun), now, last.as_ref(), step) {
                    out.note(format!("{step}{detail}"));
                    *last = Some((now, step.to_owned()));
                }
            }
        }
    }
}

/// Whether a line is written about a step.
fn is_due(running: Duration, now: Instant, last: Option<&(Instant, String)>, step: &str) -> bool {
    match last {
        None => running >= SILENT,
        Some((at, known)) => {
            let since = now.duration_since(*at);
            since >= LINE_EVERY || (known != step && since >= SILENT)
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Shown::Line(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// The stages of a command, one after the other.
pub(crate) struct Stages<'a> {
    out: &'a Output,
    begun: Instant,
}

impl<'a> Stages<'a> {
    pub(crate) fn new(out: &'a Output) -> Self {
        Self { out, begun: Instant::now() }
    }

    /// This is being done until the stage is dropped.
    pub(crate) fn begin(&self, words: impl Into<String>) -> Stage {
        let (words, began) = (words.into(), Instant::now());
        let mut steps = Steps::new(self.out);
        steps.begun = self.begun;
        if !matches!(steps.shown, Shown::Lines { .. }) {
            steps.show(&words, "");
            return Stage { _line: Some(steps), lines: None };
        }
        let lines = tokio::spawn(async move {
            loop {
                let passed = began.elapsed().as_secs();
                let since = if passed == 0 { String::new() } else { format!(" {}", spoken(Duration::from_secs(passed))) };
                steps.show(&words, &format!(" ...{since}"));
                sleep(LOOK_EVERY).await;
            }
        });
        Stage { _line: None, lines: Some(lines) }
    }
}

/// Something that is being done.
pub(crate) struct Stage {
    _line: Option<Steps>,
    lines: Option<JoinHandle<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(lines) = &self.lines {
            lines.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_and_again_while_it_lasts() {
        let begun = Instant::now();
        let at = |seconds: f64| begun + Duration::from_secs_f64(seconds);
        let due = |seconds: f64, last: Option<(f64, &str)>, step: &str| {
            let last = last.map(|(told, step)| (at(told), step.to_owned()));
            is_due(Duration::from_secs_f64(seconds), at(seconds), last.as_ref(), step)
        };
        assert!(!due(0.2, None, "reading"), "most are over at once");
        assert!(due(0.9, None, "reading"), "a line within a second");
        assert!(!due(1.4, Some((0.9, "reading")), "reading"));
        assert!(due(2.0, Some((0.9, "reading")), "compiling"));
        assert!(due(16.0, Some((0.9, "reading")), "reading"));
    }
}
