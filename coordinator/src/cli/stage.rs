//! What a command is doing before there is a job to look at: reading, compiling, starting. A line that changes on a
//! terminal; elsewhere one for each stage that takes a while, so that nobody wonders for longer than a second.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::output::Output;

/// What is over sooner is not spoken of where lines stay.
const SILENT: Duration = Duration::from_millis(700);
/// One that takes long is spoken of again.
const AGAIN: Duration = Duration::from_secs(10);

/// Says what is being done.
pub struct Stages<'a> {
    out: &'a Output,
    begun: Instant,
}

impl<'a> Stages<'a> {
    pub fn new(out: &'a Output) -> Self {
        Self { out, begun: Instant::now() }
    }

    /// This is being done until the stage is dropped.
    pub fn begin(&self, words: impl Into<String>) -> Stage {
        let words = words.into();
        if self.out.quiet {
            return Stage(Shown::Nothing);
        }
        if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well formed"));
            bar.set_message(words);
            // Its own thread draws it, whatever this one is busy with.
            bar.enable_steady_tick(Duration::from_millis(100));
            return Stage(Shown::Line(bar));
        }
        let (out, silent) = (self.out.clone(), SILENT.saturating_sub(self.begun.elapsed()));
        Stage(Shown::Lines(tokio::spawn(async move {
            sleep(silent).await;
            out.note(format!("{words} ..."));
            let mut seconds = 0;
            loop {
                sleep(AGAIN).await;
                seconds += AGAIN.as_secs();
                out.note(format!("{words} ... {seconds}s"));
            }
        })))
    }
}

/// Something that is being done.
pub struct Stage(Shown);

enum Shown {
    Line(ProgressBar),
    Lines(JoinHandle<()>),
    Nothing,
}

impl Drop for Stage {
    fn drop(&mut self) {
        match &self.0 {
            Shown::Line(bar) => bar.finish_and_clear(),
            Shown::Lines(task) => task.abort(),
            Shown::Nothing => {}
        }
    }
}
