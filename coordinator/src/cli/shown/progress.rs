//! How a job goes, on standard error: one line that changes on a terminal, a line now and then elsewhere.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    api::JobBody,
    cli::{
        shown::output::{Look, Output},
        typed::amount::spoken,
    },
};

/// Between two lines where nothing can be drawn over.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The rate is that of this long at least, and of this many tasks.
const RATE_OVER: Duration = Duration::from_secs(10);
const RATE_OVER_TASKS: u64 = 20;

/// Shows a job while it runs.
pub(crate) struct Progress {
    shown: Shown,
    look: Look,
    rate: Rate,
    /// Known only while the job is active, and wanted after it.
    moved: u64,
    lost: u64,
}

enum Shown {
    Bar(ProgressBar),
    Lines { out: Output, last: Option<Instant>, text: String },
    Nothing,
}

impl Progress {
    /// In the way that suits standard error.
    pub(crate) fn new(out: &Output) -> Self {
        let shown = if out.quiet {
            Shown::Nothing
        } else if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("[{bar:16}] {wide_msg}").expect("the template is well formed");
            bar.set_style(style.progress_chars("=> "));
            Shown::Bar(bar)
        } else {
            Shown::Lines { out: out.clone(), last: None, text: String::new() }
        };
        Self { shown, look: out.look.clone(), rate: Rate::default(), moved: 0, lost: 0 }
    }

    /// The job stands like this now.
    pub(crate) fn show(&mut self, job: &JobBody) {
        self.moved = job.moved.unwrap_or(self.moved);
        self.lost = job.lost.unwrap_or(self.lost);
        let ended = job.counts.ended();
        let now = Instant::now();
        self.rate.note(now, ended);
        let text = describe(job, self.moved, self.lost, self.rate.per_second(now));
        let look = &self.look;
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_length(job.tasks);
                bar.set_position(ended);
                bar.set_message(look.sentence(&text));
            }
            Shown::Lines { out, last, text: held } => {
                *held = text;
                if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) || job.state.is_ended() {
                    out.note(&*held);
                    *last = Some(Instant::now());
                }
            }
        }
    }

    /// Says something beside how it goes.
    pub(crate) fn say(&self, out: &Output, words: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines { .. } => out.note(words),
            Shown::Bar(bar) => bar.suspend(|| out.note(words)),
        }
    }

    /// Leaves the last line where it is.
    pub(crate) fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.abandon();
        }
    }
}

/// One line about a job: done, running, failed, moved, rate, time left.
fn describe(job: &JobBody, moved: u64, lost: u64, rate: Option<f64>) -> String {
    let counts = &job.counts;
    let mut parts = vec![format!("{} {}: {}/{} done", job.job, job.function, counts.succeeded, job.tasks)];
    let mut add = |count: u64, word: &str| {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    };
    add(u64::from(counts.running), "running");
    add(u64::from(counts.paused), "paused");
    add(u64::from(counts.failed), "failed");
    add(u64::from(counts.cancelled), "cancelled");
    add(u64::from(counts.expired), "expired");
    add(moved, "moved");
    add(lost, "lost");
    let left = job.tasks.saturating_sub(counts.ended());
    match (job.state.is_ended(), &job.waiting, rate) {
        (true, _, _) => parts.push(job.state.to_string()),
        (false, Some(reason), _) if counts.running == 0 => parts.push(reason.message.clone()),
        (false, _, Some(rate)) if rate > 0.0 => {
            parts.push(format!("{rate:.1}/s"));
            parts.push(format!("{} left", spoken(Duration::from_secs_f64((left as f64 / rate).min(1e9)))));
        }
        (false, _, _) => {}
    }
    parts.join(", ")
}

/// How many tasks end per second lately: over some seconds, or over some tasks where they take long.
#[derive(Default)]
struct Rate {
    /// When the number of ended tasks changed, and to what; the first is where counting begins.
    changes: VecDeque<(Instant, u64)>,
}

impl Rate {
    fn note(&mut self, now: Instant, ended: u64) {
        if self.changes.back().is_none_or(|(_, known)| *known != ended) {
            self.changes.push_back((now, ended));
        }
        let enough = |change: Option<&(Instant, u64)>| {
            change.is_some_and(|(at, known)| {
                now.duration_since(*at) >= RATE_OVER && ended.saturating_sub(*known) >= RATE_OVER_TASKS
            })
        };
        while enough(self.changes.get(1)) {
            self.changes.pop_front();
        }
    }

    fn per_second(&self, now: Instant) -> Option<f64> {
        let (first, last) = (self.changes.front()?, self.changes.back()?);
        let seconds = now.duration_since(first.0).as_secs_f64();
        (last.1 > first.1 && seconds > 0.2).then(|| (last.1 - first.1) as f64 / seconds)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use lull_shared::{
        id::JobId,
        state::{JobState, TaskCounts},
    };

    use super::*;
    use crate::api::Reason;

    pub(crate) fn job(counts: TaskCounts) -> JobBody {
        JobBody {
            job: JobId(1),
            name: "stats".into(),
            function: "stats@1".into(),
            submitter: "admin".into(),
            owner: None,
            state: JobState::Active,
            stopping: None,
            stopped_by: None,
            reason: None,
            tasks: counts.total(),
            counts,
            unreachable: 0,
            waiting: None,
            moved: Some(1),
            lost: Some(0),
            mean_wall_ms: None,
            priority: 0,
            submitted: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
        }
    }

    #[test]
    fn a_line_names_only_what_there_is() {
        let counts = TaskCounts { succeeded: 30, running: 4, queued: 6, ..TaskCounts::default() };
        assert_eq!(describe(&job(counts), 1, 0, Some(2.0)), "j1 stats@1: 30/40 done, 4 running, 1 moved, 2.0/s, 5s left");
        assert_eq!(describe(&job(counts), 0, 2, None), "j1 stats@1: 30/40 done, 4 running, 2 lost");
        let ended = JobBody { state: JobState::Succeeded, ..job(TaskCounts { succeeded: 40, ..TaskCounts::default() }) };
        assert_eq!(describe(&ended, 0, 0, None), "j1 stats@1: 40/40 done, succeeded");
    }

    #[test]
    fn a_job_that_may_not_start_says_why() {
        let reason = Reason::new("window", "its window opens at 22:00");
        let waiting = JobBody { waiting: Some(reason), ..job(TaskCounts { waiting: 3, ..TaskCounts::default() }) };
        assert_eq!(describe(&waiting, 0, 0, None), "j1 stats@1: 0/3 done, its window opens at 22:00");
    }

    #[test]
    fn the_rate_is_that_of_lately() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut rate = Rate::default();
        for (second, ended) in [(0, 0), (10, 10), (20, 110), (30, 130), (35, 140)] {
            rate.note(at(second), ended);
        }
        assert_eq!(rate.per_second(at(35)), Some(2.0), "since the 20th second");
        let mut slow = Rate::default();
        for (second, ended) in [(0, 0), (40, 1), (80, 2)] {
            slow.note(at(second), ended);
        }
        assert_eq!(slow.per_second(at(100)), Some(0.02), "since the beginning");
        assert_eq!(Rate::default().per_second(start), None);
    }
}
