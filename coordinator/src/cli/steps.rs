//! What a command is doing, on standard error: one line that changes on a terminal, and elsewhere a line for each step
//! that takes a while.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;

/// What is over sooner needs no words.
const SILENT: Duration = Duration::from_millis(800);
/// Between two lines about the same step, where nothing can be drawn over.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows steps. Dropping it takes the changing line away.
pub struct Steps {
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
    pub fn new(out: &Output) -> Self {
        let shown = if out.quiet {
            Shown::Nothing
        } else if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is well formed"));
            Shown::Line(bar)
        } else {
            Shown::Lines { out: out.clone(), last: None }
        };
        Self { shown, begun: Instant::now() }
    }

    /// This is being done, and so far it has come. Called about once a second, so that the line lives.
    pub fn show(&mut self, step: &str, detail: &str) {
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Line(bar) => {
                bar.set_message(format!("{step}{detail}"));
                bar.tick();
            }
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
