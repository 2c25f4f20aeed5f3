//! Silence is doubt, not death: what becomes of attempts whose agents are out of touch.
//!
//! ```text
//!  with an agent --nothing heard of it for the silence limit--> unreachable --a slot, by the job's rank--> a second copy
//!       ^                                                        |  |  |                                       |
//!       +------------- the agent is back and has it -------------+  |  +-- either brings a result: it counts --+
//!                                                                   v
//!                              lost: the agent is back without it, or nothing was heard of it for the job's `lost_after`
//! ```
//! An unreachable attempt is live: its result ends the task, whenever it comes, and costs nothing. The second copy goes on
//! from the newest snapshot that somebody has who is there. When the agent is back before either has ended, the one that
//! is further goes on and the other is taken back, unless second copies are wanted for other reasons (it is paused,
//! it straggles, both outputs are to be compared).
//!
//! A machine that falls silent alone has most likely died: its copies start at once. Several that do so within moments are
//! a switch, a cable or our own network: their copies wait for [`Limits::patience`], and then start a few at a time, those
//! of the most urgent jobs and of agents that are silent the longest first. When no agent at all is heard, it is this
//! coordinator that is cut off; nothing starts, and when the first agents are back the others have a moment to follow.
//! A coordinator that has just begun to lead has met nobody: those it waits for are treated as if they had fallen silent
//! together.

use std::{cmp::Reverse, time::Duration};

use lull_shared::{
    amount::exact,
    id::{AgentId, AttemptId},
    state::{AttemptEnd, Intake},
    time::Timestamp,
};

use crate::{
    Scheduler,
    attempts::copies::{Copies, FOR_SILENCE, Live},
    fleet::agents::{Agent, Link, Touch},
    jobs::job::Job,
    limits::Limits,
    placement::rank::micros,
    time::timers::Timer,
    views::view::{Outage, OutageKind, SecondCopy},
};

/// Live attempts of one task: two as a rule, and one more where both are out of touch. Whoever kills what runs it takes
/// no further machine before one of those is back or given up.
pub(crate) const LIVE_MAX: usize = 3;
/// Agents that fall silent one after another are looked at together: each look goes through the whole fleet.
const LOOK_GAP: Duration = Duration::from_millis(250);
/// Why attempts of a stopped job are over that nobody can be asked for.
pub(crate) const UNHEARD: &str = "its job was stopped, and nothing is heard of its agent";

/// Who is there and who is not.
struct Census {
    /// Agents that were heard lately.
    present: usize,
    /// Last words of those that should be there and are not, in order.
    missing: Vec<Timestamp>,
}

impl Census {
    /// How many fell silent about then.
    fn silent_with(&self, since: Timestamp, span: Duration) -> usize {
        let until = since + span;
        self.missing.partition_point(|at| *at <= until) - self.missing.partition_point(|at| *at + span < since)
    }

    /// Whether so many fell silent about then that it is the network.
    fn is_together(&self, since: Timestamp, limits: &Limits) -> bool {
        let silent = self.silent_with(since, limits.together_span);
        let share = silent.saturating_mul(100) >= (silent + self.present).saturating_mul(limits.together_percent_min);
        self.is_cut_off() || (silent >= limits.together_agents_min && share)
    }

    /// Whether no agent at all is heard, although some should be.
    fn is_cut_off(&self) -> bool {
        self.present == 0 && !self.missing.is_empty()
    }
}

impl Scheduler {
    /// Whether nothing has been heard of the agent for the silence limit.
    pub(crate) fn is_unreachable(&self, id: AgentId) -> bool {
        self.fleet.get(id).is_some_and(|agent| agent.touch.lost_since().is_some())
    }

    /// Nothing was heard of the agent for the silence limit; `since`: its last word.
    pub(crate) fn lose_touch(&mut self, id: AgentId, since: Timestamp) {
        let agent = self.fleet.known(id);
        // Whom this coordinator has not met yet had the time that all of them had.
        let together = agent.last_heard.is_none().then_some(self.now);
        agent.touch = Touch::Lost { since, together };
        agent.stop_clocks(self.now);
        for (attempt, occupied) in agent.vacate() {
            let job = self.jobs.get(&attempt.task.job).expect("a held attempt's job is active");
            self.shares.vacate(job.submitter, occupied);
        }
        let held: Vec<_> = self.fleet.agent(id).held.keys().copied().collect();
        let is_stopped = |attempt: &AttemptId| self.jobs.get(&attempt.task.job).is_some_and(|job| job.stopping.is_some());
        for attempt in held.into_iter().filter(is_stopped).collect::<Vec<_>>() {
            self.withdraw(id, attempt, UNHEARD, AttemptEnd::Cancelled);
        }
        self.look_soon();
    }

    /// The agent is back, or was hardly away.
    pub(crate) fn regain_touch(&mut self, id: AgentId) {
        let now = self.now;
        let agent = self.fleet.known(id);
        let Touch::Lost { together, .. } = std::mem::replace(&mut agent.touch, Touch::Kept) else { return };
        agent.returned = true;
        let (again, held) = (agent.occupy_again(now), agent.held.keys().copied().collect::<Vec<_>>());
        if together.is_some() {
            self.healing_since = Some(now);
        }
        for attempt in again {
            let job = self.jobs.get(&attempt.task.job).expect("a held attempt's job is active");
            self.shares.occupy(job.submitter, now);
        }
        held.into_iter().for_each(|attempt| self.unwant(attempt));
        self.time_again(id);
        self.look_soon();
    }

    /// The agent has left in good order, or for good.
    pub(crate) fn excuse(&mut self, id: AgentId) {
        self.fleet.known(id).touch = Touch::Kept;
        self.timers.clear(Timer::Lease(id));
    }

    /// Lets it be looked who has what, in a moment.
    pub(crate) fn look_soon(&mut self) {
        self.timers.set_sooner(Timer::Silence, self.now.max(self.silence_looked + LOOK_GAP));
    }

    /// Looks at what is with agents out of touch: gives up what is too old, and lets copies start of what nobody else has.
    pub(crate) fn look_at_silence(&mut self) {
        self.silence_looked = self.now;
        let census = self.census(self.now);
        self.tell_together(&census);
        if census.is_cut_off() {
            self.was_cut_off = true;
        } else if std::mem::take(&mut self.was_cut_off) {
            self.healing_since = Some(self.now);
        }
        let due = self.give_up_old();
        if self.is_full() {
            return self.timers.set(Timer::Silence, self.now);
        }
        let waits = census.is_cut_off() || self.want_copies();
        let soon = waits.then(|| self.now + self.limits.silence_look);
        self.timers.set_or_clear(Timer::Silence, soon.into_iter().chain(due).min());
    }

    fn census(&self, now: Timestamp) -> Census {
        let mut census = Census { present: 0, missing: Vec::new() };
        let quiet = self.limits.lease / 2;
        for (_, agent) in self.fleet.iter().filter(|(_, agent)| is_expected(agent)) {
            match (&agent.link, agent.touch, agent.last_heard) {
                (Link::Open(_), _, Some(heard)) if heard + quiet <= now => census.missing.push(heard),
                (Link::Open(_), ..) => census.present += 1,
                (_, Touch::Awaited { since } | Touch::Lost { since, .. }, _) => census.missing.push(since),
                (_, Touch::Kept, _) => {}
            }
        }
        census.missing.sort_unstable();
        census
    }

    /// Notes of those that fell silent lately whether others did so with them.
    fn tell_together(&mut self, census: &Census) {
        let limits = &self.limits;
        let lately = self.now - limits.lease - limits.together_span - limits.together_span;
        let alone = self.fleet.iter().filter_map(|(id, agent)| match agent.touch {
            Touch::Lost { since, together: None } if is_expected(agent) && since >= lately => Some((id, since)),
            Touch::Lost { .. } | Touch::Awaited { .. } | Touch::Kept => None,
        });
        let found: Vec<_> = alone.filter(|(_, since)| census.is_together(*since, limits)).collect();
        for (id, since) in found {
            let until = since + self.limits.lease + self.limits.patience;
            let agent = self.fleet.known(id);
            agent.touch = Touch::Lost { since, together: Some(until) };
            let held: Vec<_> = agent.held.keys().copied().collect();
            held.into_iter().for_each(|attempt| self.unwant(attempt));
        }
    }

    /// Gives up attempts of whose agents nothing was heard for as long as their jobs say. When the next is.
    fn give_up_old(&mut self) -> Option<Timestamp> {
        let mut next = None;
        self.fleet.settle();
        for (since, id) in self.fleet.doubtful().collect::<Vec<_>>() {
            let held: Vec<_> = self.fleet.agent(id).held.keys().copied().collect();
            for attempt in held {
                let Some(job) = self.jobs.get(&attempt.task.job) else { continue };
                if self.is_full() {
                    return Some(self.now);
                }
                if job.stopping.is_some() {
                    // One of so many that they could not all be ended when the job was stopped.
                    self.withdraw(id, attempt, UNHEARD, AttemptEnd::Cancelled);
                    continue;
                }
                let lost_after = job.new.spec.lost_after();
                let at = since + lost_after;
                if at > self.now {
                    next = Some(next.map_or(at, |next: Timestamp| next.min(at)));
                    continue;
                }
                let reason = format!("nothing was heard of its agent for {}", exact(lost_after));
                self.withdraw(id, attempt, &reason, AttemptEnd::Lost);
            }
        }
        next
    }

    /// Lets tasks begin once more that are with agents out of touch only. Whether some are left for another look.
    fn want_copies(&mut self) -> bool {
        self.fleet.settle();
        let (mut alone, mut together, mut waiting, mut left) = (Vec::new(), Vec::new(), 0, false);
        let healed = self.healing_since.is_none_or(|since| since + self.limits.reconnect_grace <= self.now);
        for (since, id) in self.fleet.doubtful() {
            let Some(agent) = self.fleet.get(id) else { continue };
            for attempt in agent.held.keys() {
                let Some(job) = self.jobs.get(&attempt.task.job) else { continue };
                if !self.needs_copy(job, *attempt) {
                    continue;
                }
                let urgency = (Reverse(job.new.spec.priority), since, job.new.spec.finish_by.unwrap_or(LAST), *attempt);
                match agent.touch {
                    Touch::Lost { together: None, .. } if job.tasks.is_wanted(attempt.task.index) => {}
                    Touch::Lost { together: None, .. } => alone.push((*attempt, id, since)),
                    _ if job.tasks.is_wanted(attempt.task.index) => waiting += 1,
                    Touch::Lost { together: Some(until), .. } if until <= self.now && healed => together.push((urgency, id)),
                    Touch::Lost { .. } | Touch::Awaited { .. } | Touch::Kept => left = true,
                }
            }
        }
        together.sort_unstable();
        let most = usize::try_from((self.fleet.slots() / self.limits.slots_per_copy.max(1)).max(1)).unwrap_or(usize::MAX);
        left |= waiting > 0 || !together.is_empty();
        let few = together.into_iter().take(most.saturating_sub(waiting));
        let few = few.map(|((_, since, _, attempt), id)| (attempt, id, since));
        for (attempt, id, since) in alone.into_iter().chain(few).collect::<Vec<_>>() {
            self.want_copy(attempt, id, since);
        }
        left
    }

    /// Whether nobody who is there has the task of this attempt, and another may be given it. Of several attempts that are
    /// out of touch the newest speaks for the task.
    fn needs_copy(&self, job: &Job, attempt: AttemptId) -> bool {
        let copies = job.tasks.copies(attempt.task.index).expect("a held attempt is live");
        let newest = copies.iter().next_back().is_some_and(|live| live.number == attempt.number);
        let risky = job.tasks.lost(attempt.task.index) + copies.count() as u32 >= self.limits.lost_max;
        newest && job.stopping.is_none() && copies.count() < LIVE_MAX && !risky && !self.is_with_somebody(copies)
    }

    /// Whether one of the attempts is with an agent that is in touch.
    pub(crate) fn is_with_somebody(&self, copies: &Copies) -> bool {
        copies.iter().any(|live| !self.is_unreachable(live.agent))
    }

    fn want_copy(&mut self, attempt: AttemptId, id: AgentId, since: Timestamp) {
        let name = self.fleet.get(id).map(|agent| agent.name.clone()).unwrap_or_default();
        let since = self.on_wall(since);
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        job.tasks.want(attempt.task.index, format!("{FOR_SILENCE}{name} since {since}").into());
    }

    fn unwant(&mut self, attempt: AttemptId) {
        if let Some(job) = self.jobs.get_mut(&attempt.task.job) {
            job.tasks.unwant(attempt.task.index);
        }
    }

    /// An agent that was out of touch says what it has. Of a task that it and others have the attempt that is further goes
    /// on, and the others are taken back.
    pub(crate) fn settle_copies(&mut self, id: AgentId, holding: &[AttemptId]) {
        for attempt in holding {
            if !self.fleet.agent(id).held.contains_key(attempt) {
                continue;
            }
            for (agent, other, winner) in self.needless_copies(*attempt) {
                let name = self.fleet.get(winner).map(|agent| agent.name.clone()).unwrap_or_default();
                let reason = format!("its task is further at {name}, which is in touch again");
                self.withdraw(agent, other, &reason, AttemptEnd::Recalled);
            }
        }
    }

    /// Attempts of the task that are behind another of which is heard, each with the agent that is ahead; none where two
    /// are wanted.
    fn needless_copies(&self, attempt: AttemptId) -> Vec<(AgentId, AttemptId, AgentId)> {
        let index = attempt.task.index;
        let Some(job) = self.jobs.get(&attempt.task.job).filter(|job| job.stopping.is_none()) else { return Vec::new() };
        let Some(copies) = job.tasks.copies(index) else { return Vec::new() };
        let heard: Vec<_> = copies.iter().filter(|live| !self.is_unreachable(live.agent)).collect();
        let compared = job.verifies(index) && job.tasks.answers(index).len() + heard.len() <= 2;
        let paused = heard.iter().any(|live| live.paused.is_some());
        let done_us = |live: &&Live| {
            let name = AttemptId { number: live.number, ..attempt };
            let held = self.fleet.get(live.agent).and_then(|agent| agent.held.get(&name));
            // Of one that another coordinator gave out nobody knows whether it has started; it most likely has.
            let begun = held.is_some_and(|held| held.started || (held.order == 0 && held.resumed));
            let ran_us = if begun { micros(self.now.since(live.since)) } else { 0 };
            live.resumed_us.unwrap_or(0).saturating_add(ran_us)
        };
        let Some(first) = heard.iter().max_by_key(|live| (done_us(live), Reverse(live.number))) else { return Vec::new() };
        let straggles = job.pace.straggles_after_us(&self.limits).is_some_and(|long_us| done_us(first) >= long_us);
        // Others were started for other reasons, which still hold.
        let for_silence = heard.iter().any(|live| live.for_silence);
        if !for_silence || compared || paused || straggles {
            return Vec::new();
        }
        let others = heard.iter().filter(|live| live.number != first.number);
        others.map(|live| (live.agent, AttemptId { number: live.number, ..attempt }, first.agent)).collect()
    }

    /// What is wrong with the network, as far as silence tells, by the clock on the wall.
    pub fn outage(&self, now: Timestamp) -> Option<Outage> {
        let outage = self.steady_outage(now)?;
        let copies_from = outage.copies_from.map(|at| self.on_wall(at));
        Some(Outage { since: self.on_wall(outage.since), copies_from, ..outage })
    }

    fn steady_outage(&self, now: Timestamp) -> Option<Outage> {
        let now = now.max(self.now);
        let census = self.census(now);
        let unmet = self.fleet.iter().filter(|(_, agent)| agent.last_heard.is_none());
        let unmet = unmet.filter_map(|(_, agent)| match agent.touch {
            Touch::Awaited { since } => Some(since),
            Touch::Lost { .. } | Touch::Kept => None,
        });
        let unmet: Vec<_> = unmet.collect();
        if let Some(since) = unmet.iter().min() {
            let agents = unmet.len() as u32;
            return Some(Outage {
                kind: OutageKind::Unmet,
                since: *since,
                agents,
                copies_from: Some(*since + self.limits.reconnect_grace),
            });
        }
        let last = census.missing.last().copied();
        if let Some(since) = last.filter(|last| census.is_cut_off() && *last + self.limits.lease <= now) {
            let agents = census.silent_with(since, self.limits.together_span) as u32;
            return Some(Outage { kind: OutageKind::CutOff, since, agents, copies_from: None });
        }
        let together = self.fleet.iter().filter(|(_, agent)| is_expected(agent)).filter_map(|(_, agent)| match agent.touch {
            Touch::Lost { since, together: Some(until) } => Some((since, until)),
            Touch::Lost { .. } | Touch::Awaited { .. } | Touch::Kept => None,
        });
        let together: Vec<_> = together.collect();
        let (since, _) = together.iter().min()?;
        let until = together.iter().map(|(_, until)| *until).max()?;
        let healed = self.healing_since.map(|since| since + self.limits.reconnect_grace);
        let copies_from = Some(healed.map_or(until, |healed| healed.max(until)));
        Some(Outage { kind: OutageKind::Together, since: *since, agents: together.len() as u32, copies_from })
    }

    /// How it stands with a second copy of a task that is with agents out of touch only; none if somebody is heard of.
    pub(crate) fn second_copy(&self, job: &Job, copies: &Copies, index: u32, now: Timestamp) -> Option<SecondCopy> {
        let newest = copies.iter().next_back().filter(|_| !self.is_with_somebody(copies))?;
        if job.tasks.is_wanted(index) {
            return Some(SecondCopy::WaitsForSlot);
        }
        let had = job.tasks.lost(index) + copies.count() as u32;
        if copies.count() >= LIVE_MAX || had >= self.limits.lost_max {
            return Some(SecondCopy::Enough { copies: had });
        }
        match (self.outage(now).map(|outage| (outage.kind, outage.copies_from)), self.fleet.get(newest.agent)?.touch) {
            (Some((OutageKind::CutOff, _)), _) => Some(SecondCopy::CutOff),
            (Some((_, Some(from))), Touch::Lost { together: Some(_), .. }) => Some(SecondCopy::Together { from }),
            (_, _) => Some(SecondCopy::WaitsForSlot),
        }
    }
}

/// Later than every deadline.
const LAST: Timestamp = Timestamp(i64::MAX);

/// Whether its silence would be no ordinary thing.
fn is_expected(agent: &Agent) -> bool {
    agent.intake != Intake::Revoked && (agent.sleeper.asleep.is_none() || matches!(agent.link, Link::Open(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    fn census(present: usize, missing: &[i64]) -> Census {
        Census { present, missing: missing.iter().copied().map(at).collect() }
    }

    #[test]
    fn whoever_fell_silent_within_a_span_before_or_after_did_so_with_it() {
        let census = census(9, &[0, 10, 20, 30, 40]);
        let span = Duration::from_secs(10);
        assert_eq!([-11, -10, 0, 15, 20, 50, 51].map(|since| census.silent_with(at(since), span)), [0, 1, 2, 2, 3, 1, 0]);
    }

    #[test]
    fn three_that_are_a_fifth_of_all_fell_silent_together_and_so_did_all_that_there_are() {
        let limits = Limits::default();
        assert_eq!((limits.together_agents_min, limits.together_percent_min), (3, 20));
        for (present, silent, together, cut_off) in [
            (12, 3, true, false),
            (13, 3, false, false),
            (1, 2, false, false),
            (1, 3, true, false),
            (400, 100, true, false),
            (401, 100, false, false),
            (0, 1, true, true),
            (0, 0, false, false),
            (5, 0, false, false),
        ] {
            let census = census(present, &vec![7; silent]);
            let says = (census.is_together(at(7), &limits), census.is_cut_off());
            assert_eq!(says, (together, cut_off), "{silent} of {} are silent", present + silent);
        }
    }

    #[test]
    fn nobody_is_expected_that_was_thrown_out_or_has_gone_to_sleep() {
        use crate::{event::StreamId, fleet::agents::Stream};

        let stream = || Stream { id: StreamId(1), since: at(0), orders: 0, briefs: Default::default() };
        for (intake, asleep, link, expected) in [
            (Intake::Open, false, Link::Away, true),
            (Intake::Draining, false, Link::Silent(stream()), true),
            (Intake::Revoked, false, Link::Open(stream()), false),
            (Intake::Open, true, Link::Away, false),
            (Intake::Open, true, Link::Silent(stream()), false),
            (Intake::Open, true, Link::Open(stream()), true),
        ] {
            let mut agent = Agent::new("pc".into(), intake);
            (agent.link, agent.sleeper.asleep) = (link, asleep.then_some(at(0)));
            assert_eq!(is_expected(&agent), expected, "{intake:?}, asleep: {asleep}, {:?}", agent.link);
        }
    }
}
