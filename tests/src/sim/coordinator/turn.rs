//! One turn of the loop: what came goes through the scheduler, its changes to the store, and what follows on its way.

use std::time::Duration;

use lull_coordinator::{
    dispatch::{
        Ended,
        submission::{look_at, look_up, look_up_retry},
        turn::{Committed, Outgoing, Sealed, Turn},
        writer::{Framer, Peer},
    },
    store::{Lead, StoreError, faulty::Fault},
};
use lull_scheduler::{
    Scheduler,
    effect::{Change, Effect, Refusal, Reply},
    event::Event,
};
use lull_shared::{id::JobId, identity::Signed, time::Timestamp};

use super::{
    super::{
        events::{CoordinatorEvent, CoordinatorId, What},
        judged::promise::{Checked, Promise, hold},
        machines::processor,
        options::{Kind, Mutation},
        store::at_once,
        world::World,
    },
    Input, Leader, Request, State,
};

/// As the coordinator's shell has them.
const INPUTS_PER_TURN: usize = 1024;
const COMMIT_PAUSE_MIN: Duration = Duration::from_millis(50);
const COMMIT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// From when to when a commit is done, in seconds: of a store that is well, and of one that answers late.
const COMMIT_S: (f64, f64) = (0.001, 0.012);
const SLOW_COMMIT_S: (f64, f64) = (0.3, 8.0);
/// How long the store takes to say what the scheduler asked for.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// A turn on its way to the store.
pub(super) struct Pending {
    work: Work,
    changes: Vec<Change>,
    began: Timestamp,
    pause: Duration,
}

enum Work {
    Turn(Turn),
    /// What a broken shell makes of a turn.
    Loose(Sealed),
}

/// What came of a commit, of a sound shell or a broken one.
enum Answer {
    Done(Sealed),
    Refused(Work, StoreError),
    Ended(Ended),
}

impl From<Committed> for Answer {
    fn from(committed: Committed) -> Self {
        match committed {
            Committed::Done(sealed) => Self::Done(sealed),
            Committed::Refused(turn, error) => Self::Refused(Work::Turn(turn), error),
            Committed::Ended(ended, _) => Self::Ended(ended),
        }
    }
}

impl World {
    /// One turn of the loop, up to its commit.
    pub(super) fn turn(&mut self, id: CoordinatorId) -> Checked {
        let now = self.now;
        let coordinator = &mut self.coordinators[id];
        if coordinator.turn_at.is_none_or(|at| at > now) || coordinator.leader().is_none_or(|leader| !leader.is_settled()) {
            return Ok(());
        }
        coordinator.turn_at = None;
        let began = processor::time();
        let mut taken = 0;
        // What is left of the turn before comes first.
        let is_settled = self.coordinators[id].leader().is_some_and(|leader| leader.scheduler.next_effect().is_none());
        if is_settled {
            self.look(id);
        }
        while is_settled && taken < INPUTS_PER_TURN {
            let Some(input) = self.coordinators[id].inbox.pop_front() else { break };
            // These look into the store, which must know by then all that happened before.
            let looks = match &input {
                Input::Retry { .. } => true,
                Input::Submit { moment, .. } => self.coordinators[id].moments.have_passed(*moment),
                Input::Event(_) | Input::Attach { .. } | Input::Request { .. } => false,
            };
            if looks && taken > 0 {
                self.coordinators[id].inbox.push_front(input);
                break;
            }
            taken += 1;
            self.take(id, input);
        }
        let sends_early = self.options.mutation == Some(Mutation::SendBeforeCommit);
        let loose = sends_early || matches!(self.options.mutation, Some(Mutation::TrustDoubt | Mutation::IgnoreFence));
        let coordinator = &mut self.coordinators[id];
        let State::Leading(leader) = &mut coordinator.state else { return Ok(()) };
        if is_settled {
            leader.scheduler.handle_timeout(now);
        }
        let (work, changes) = if loose {
            let (changes, sealed) = drain_loosely(&mut leader.scheduler);
            (Work::Loose(sealed), changes)
        } else {
            let turn = Turn::drain(&mut leader.scheduler);
            let changes = turn.changes().to_vec();
            (Work::Turn(turn), changes)
        };
        self.summary.core_time += processor::time() - began;
        self.summary.turns += 1;
        changes.iter().for_each(|change| coordinator.catalogue.follow(change));
        let mut pending = Pending { work, changes, began: now, pause: COMMIT_PAUSE_MIN };
        if let (true, Work::Loose(sealed)) = (sends_early, &mut pending.work) {
            let early = std::mem::take(sealed);
            self.send_sealed(id, early)?;
        }
        let nothing = pending.changes.is_empty();
        if let Some(leader) = self.coordinators[id].leader_mut() {
            leader.pending = Some(pending);
        }
        if nothing {
            return self.commit(id);
        }
        let (least, most) = if self.database.moods.is_slow() { SLOW_COMMIT_S } else { COMMIT_S };
        let latency = self.dice.coordinators.seconds(least, most);
        self.push_coordinator(id, now + latency, CoordinatorEvent::Commit);
        Ok(())
    }

    /// Reads what the scheduler asked for. What the store does not say now is read with the next turn.
    fn look(&mut self, id: CoordinatorId) {
        let store = self.database.store.clone();
        let coordinator = &mut self.coordinators[id];
        let State::Leading(leader) = &mut coordinator.state else { return };
        leader.looks.retain(|look| match at_once(look_at(&*store, *look)) {
            Ok(event) => {
                coordinator.inbox.push_front(Input::Event(Box::new(event)));
                false
            }
            Err(_) => true,
        });
    }

    fn take(&mut self, id: CoordinatorId, input: Input) {
        let (now, store, part) = (self.now, self.database.store.clone(), self.limits().retry_part_max);
        let coordinator = &mut self.coordinators[id];
        let State::Leading(leader) = &mut coordinator.state else { return };
        match input {
            Input::Event(event) => {
                if let Event::Disconnected { stream, .. } = &*event {
                    leader.links.remove(stream);
                }
                leader.scheduler.handle(*event, now);
            }
            Input::Attach { stream, link } => {
                let peer = Peer {
                    agent: self.links[link].agent,
                    stream,
                    term: leader.lead.term,
                    term_proof: Signed { body: Vec::new(), signature: Vec::new() },
                    certificate: None,
                    policy: None,
                    coordinators: Vec::new(),
                    portal: None,
                    heartbeat: self.options.heartbeat(),
                };
                leader.links.insert(stream, (link, Framer::new(peer, coordinator.catalogue.clone())));
            }
            Input::Request { number, wish } => {
                let request = leader.expect_reply(number);
                let by = "ada".to_owned();
                let event = match wish {
                    Request::Cancel(job) => Event::Cancel { request, job, by },
                    Request::Intake(agent, intake) => Event::SetIntake { request, agent, intake, by },
                };
                leader.scheduler.handle(event, now);
            }
            Input::Submit { number, mut submission, moment } => {
                if coordinator.moments.have_passed(moment) {
                    match at_once(look_up(&*store, &mut submission)) {
                        Ok(None) => {}
                        Ok(Some(reply)) => {
                            return self.queue.push(now, What::Answered { number, reply });
                        }
                        Err(_) => return,
                    }
                }
                let request = leader.expect_reply(number);
                leader.scheduler.handle(Event::Submit { request, submission }, now);
            }
            Input::Retry { number, job } => match at_once(look_up_retry(&*store, job, "ada".into(), None, part)) {
                Err(_) => {}
                Ok(None) => {
                    let reply = Reply::Refused(Refusal::NoJob(job));
                    self.queue.push(now, What::Answered { number, reply });
                }
                Ok(Some(retry)) => {
                    let request = leader.expect_reply(number);
                    coordinator.catalogue.reopen(&retry.job);
                    let event = Event::Retry { request, retry: Box::new(retry) };
                    leader.scheduler.handle(event, now);
                }
            },
        }
    }

    /// The turn reaches the store; what follows depends on its answer, and on whether the process lives to hear it.
    pub(super) fn commit(&mut self, id: CoordinatorId) -> Checked {
        let now = self.now;
        let store = self.database.store.clone();
        let Some(leader) = self.coordinators[id].leader_mut() else { return Ok(()) };
        let lead = leader.lead.clone();
        let Some(Pending { work, changes, began, pause }) = leader.pending.take() else { return Ok(()) };
        let (committed, recorded) = match work {
            Work::Turn(turn) => (at_once(turn.commit(&*store, &lead)).into(), true),
            Work::Loose(sealed) => self.commit_loosely(&lead, sealed, &changes),
        };
        let fault = self.database.moods.last();
        let sealed = match committed {
            Answer::Done(sealed) => {
                if recorded {
                    self.record(id, &changes)?;
                }
                sealed
            }
            Answer::Refused(work, error) => {
                self.summary.refused_commits += 1;
                let what = || format!("the store does not take what the scheduler decided: {error}");
                hold(Promise::NothingLost, fault != Fault::None, what, &[])?;
                let pending = Pending { work, changes, began, pause: (pause * 2).min(COMMIT_PAUSE_MAX) };
                if let Some(leader) = self.coordinators[id].leader_mut() {
                    leader.pending = Some(pending);
                }
                self.push_coordinator(id, now + pause, CoordinatorEvent::Commit);
                return Ok(());
            }
            Answer::Ended(Ended::InDoubt) => {
                if fault == Fault::Unconfirmed {
                    self.record(id, &changes)?;
                }
                self.summary.doubts += 1;
                self.note(|| format!("! term {} is in doubt about a commit: {fault:?}", lead.term.0));
                self.end_term(id, lead);
                return Ok(());
            }
            Answer::Ended(Ended::Fenced | Ended::Stopped | Ended::Forgotten) => {
                self.step_down(id);
                return Ok(());
            }
        };
        let took = now.since(began);
        if let Some(leader) = self.coordinators[id].leader_mut()
            && !changes.is_empty()
        {
            leader.scheduler.excuse_silence(took, now);
        }
        if !changes.is_empty() && !self.healed && self.dice.coordinators.chance(self.crash_after_commit()) {
            return self.crash_half_sent(id, sealed);
        }
        self.send_sealed(id, sealed)?;
        self.look_again(id);
        Ok(())
    }

    /// Between a commit and its words: about one crash in an hour of a small world.
    fn crash_after_commit(&self) -> f64 {
        let turns_per_hour = (f64::from(self.options.tasks) * 4.0 / f64::from(self.options.hours)).max(200.0);
        0.3 * self.options.rate(Kind::Crash) / turns_per_hour
    }

    fn crash_half_sent(&mut self, id: CoordinatorId, mut sealed: Sealed) -> Checked {
        let kept = self.dice.coordinators.index(sealed.orders.len() + 1);
        sealed.orders.truncate(kept);
        sealed.replies.clear();
        self.note(|| format!("! a coordinator crashes after a commit, with {kept} orders sent"));
        self.send_sealed(id, sealed)?;
        let restart = self.dice.coordinators.seconds(1.0, 40.0);
        self.crash_coordinator(id, false, restart);
        Ok(())
    }

    /// When the loop is to look next.
    fn look_again(&mut self, id: CoordinatorId) {
        let now = self.now;
        let coordinator = &self.coordinators[id];
        let Some(leader) = coordinator.leader() else { return };
        if !coordinator.inbox.is_empty() || leader.scheduler.next_effect().is_some() {
            return self.turn_soon(id, now);
        }
        if !leader.looks.is_empty() {
            return self.turn_soon(id, now + LOOK_PAUSE);
        }
        if let Some(due) = leader.scheduler.poll_timeout() {
            let at = due.max(now + Duration::from_micros(1));
            self.turn_soon(id, at);
        }
    }

    /// The store is in doubt: streams are closed and everything is loaded anew.
    fn end_term(&mut self, id: CoordinatorId, lead: Lead) {
        let ended = std::mem::replace(&mut self.coordinators[id].state, State::Loading { lead, tries: 0 });
        if let State::Leading(leader) = ended {
            leader.links.into_values().for_each(|(link, _)| self.close_from_coordinator(link));
        }
        self.push_coordinator(id, self.now + Duration::from_millis(10), CoordinatorEvent::Load);
    }

    /// The changes are in the store now.
    fn record(&mut self, id: CoordinatorId, changes: &[Change]) -> Checked {
        let mut ended = false;
        for change in changes {
            self.digest_change(change);
            self.note_change(change);
            ended |= matches!(change, Change::JobEnded { .. });
            self.ledger.apply(change)?;
            self.note_useful(change);
            self.note_waste(change)?;
        }
        if ended {
            self.coordinators[id].moments.pass();
        }
        let Some(leader) = self.coordinators[id].leader() else { return Ok(()) };
        if leader.scheduler.next_effect().is_some() {
            // It has decided more than is recorded.
            return Ok(());
        }
        let mut last = None;
        for job in changes.iter().filter_map(Change::job) {
            if last.replace(job) != Some(job) {
                self.check_job(leader, job)?;
            }
        }
        Ok(())
    }

    /// The scheduler counts a job's tasks as the ledger does.
    pub(crate) fn check_job(&self, leader: &Leader, job: JobId) -> Checked {
        let Some(known) = self.ledger.jobs.get(&job) else { return Ok(()) };
        let view = leader.scheduler.job(job, self.now);
        let agrees = match &view {
            Some(view) => !known.state.is_ended() && known.agrees(&view.counts),
            None => known.state.is_ended(),
        };
        let what = || format!("{job}: the scheduler counts {:?}, committed are {}", view.map(|view| view.counts), known.words());
        hold(Promise::NothingLost, agrees, what, &[job.into()])
    }

    /// As a broken shell commits, and whether the store really has it.
    fn commit_loosely(&mut self, lead: &Lead, sealed: Sealed, changes: &[Change]) -> (Answer, bool) {
        if changes.is_empty() {
            return (Answer::Done(sealed), true);
        }
        let mutation = self.options.mutation;
        match at_once(self.database.store.clone().commit(lead, changes)) {
            Ok(()) => (Answer::Done(sealed), true),
            Err(error @ StoreError::Determinate(_)) => (Answer::Refused(Work::Loose(sealed), error), false),
            Err(StoreError::Indeterminate(_)) if mutation == Some(Mutation::TrustDoubt) => {
                (Answer::Done(sealed), self.database.moods.last() == Fault::Unconfirmed)
            }
            Err(StoreError::Fenced(_)) if mutation == Some(Mutation::IgnoreFence) => (Answer::Done(sealed), false),
            Err(StoreError::Indeterminate(_) | StoreError::Contradiction(_) | StoreError::Lost(_)) => {
                (Answer::Ended(Ended::InDoubt), false)
            }
            Err(StoreError::Fenced(_)) => (Answer::Ended(Ended::Fenced), false),
        }
    }
}

fn drain_loosely(scheduler: &mut Scheduler) -> (Vec<Change>, Sealed) {
    let (mut changes, mut sealed) = (Vec::new(), Sealed::default());
    while let Some(effect) = scheduler.poll_effect() {
        match effect {
            Effect::Record(change) => changes.push(change),
            Effect::Send { agent, stream, number, order } => sealed.orders.push(Outgoing { agent, stream, number, order }),
            Effect::Reply { request, reply } => sealed.replies.push((request, reply)),
            Effect::OwnCopy(own_copy) => sealed.own_copies.push(own_copy),
            Effect::Look(look) => sealed.looks.push(look),
        }
    }
    (changes, sealed)
}
