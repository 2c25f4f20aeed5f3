//! What a run comes to, in a table.

use std::{fmt, time::Duration};

use crate::sim::judged::ledger::Tally;

/// Counts of a run.
#[derive(Debug, Default, Clone)]
pub struct Summary {
    pub tally: Tally,
    pub events: u64,
    pub jobs: usize,
    pub tasks: u64,
    /// Executions that came to an end.
    pub runs: u64,
    pub faults: u64,
    pub kills: u64,
    pub died: u64,
    pub crashes: u64,
    pub handovers: u64,
    pub loads: u64,
    pub fenced: u64,
    pub doubts: u64,
    pub refused_commits: u64,
    pub refused_agents: u64,
    pub turns: u64,
    pub audits: u64,
    /// Snapshots taken, attempts that went on from one, and the running time that they did not have to repeat.
    pub snapshots: u64,
    pub resumed: u64,
    pub carried: Duration,
    /// Tasks that ran where a machine went dark, and the most running time that one of them had to repeat.
    pub outages: u64,
    pub outage_cost: Duration,
    /// Work of tasks that succeeded which came to nothing, and what copies did beside each other.
    pub thrown_away: Duration,
    pub done_twice: Duration,
    /// Tasks of a machine that died for good: those that began elsewhere, the last of them after so long, and the others.
    pub taken_over: u64,
    pub taken_over_after: Duration,
    pub left_behind: usize,
    pub virtual_time: Duration,
    /// Processor time in the scheduler.
    pub core_time: Duration,
}

impl Summary {
    /// Processor time in the scheduler for each task, in microseconds.
    pub fn core_us_per_task(&self) -> f64 {
        self.core_time.as_secs_f64() * 1e6 / self.tasks.max(1) as f64
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let Tally { attempts, succeeded, failed_attempts, lost, recalled, evicted, cancelled, late_results, .. } = tally;
        let hours = self.virtual_time.as_secs_f64() / 3600.0;
        writeln!(f, "events            {:>12}   virtual hours    {hours:>10.1}", self.events)?;
        writeln!(f, "jobs              {:>12}   tasks            {:>10}", self.jobs, self.tasks)?;
        writeln!(f, "attempts          {attempts:>12}   succeeded        {succeeded:>10}")?;
        writeln!(f, "  failed          {failed_attempts:>12}   lost             {lost:>10}")?;
        writeln!(f, "  recalled        {recalled:>12}   evicted          {evicted:>10}")?;
        writeln!(f, "  cancelled       {cancelled:>12}   late results     {late_results:>10}")?;
        writeln!(f, "moves             {:>12}   pauses           {:>10}", tally.moves, tally.pauses)?;
        writeln!(f, "second copies     {:>12}   outputs compared {:>10}", tally.second_copies, tally.answers)?;
        writeln!(f, "liars quarantined {:>12}   lies not looked at {:>8}", tally.quarantined, tally.lies)?;
        if tally.taken_from_breaching > 0 {
            writeln!(f, "taken from breaking the protocol {:>4}", tally.taken_from_breaching)?;
        }
        writeln!(f, "snapshots         {:>12}   resumed          {:>10}", self.snapshots, self.resumed)?;
        writeln!(f, "hours not repeated{:>12.1}", self.carried.as_secs_f64() / 3600.0)?;
        let hours = |time: Duration| time.as_secs_f64() / 3600.0;
        writeln!(
            f,
            "work thrown away  {:>12.3}   work done twice  {:>10.3}   (slot hours)",
            hours(self.thrown_away),
            hours(self.done_twice)
        )?;
        if self.taken_over > 0 || self.left_behind > 0 {
            let (after, left) = (self.taken_over_after.as_secs_f64(), self.left_behind);
            writeln!(f, "taken over from a dead machine {} tasks, the last after {after:.1} s; left {left}", self.taken_over)?;
        }
        writeln!(f, "faults            {:>12}   agents killed    {:>10}", self.faults, self.kills)?;
        writeln!(f, "machines dead     {:>12}   agents refused   {:>10}", self.died, self.refused_agents)?;
        writeln!(f, "coordinator ends  {:>12}   handovers        {:>10}", self.crashes, self.handovers)?;
        writeln!(f, "  fenced          {:>12}   loaded           {:>10}", self.fenced, self.loads)?;
        writeln!(f, "commits in doubt  {:>12}   commits refused  {:>10}", self.doubts, self.refused_commits)?;
        writeln!(f, "turns             {:>12}   audits           {:>10}", self.turns, self.audits)?;
        write!(f, "scheduler's processor time {:.2} us a task", self.core_us_per_task())
    }
}
