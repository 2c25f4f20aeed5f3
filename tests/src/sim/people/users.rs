//! The people: they submit what they planned, ask again when nobody answers, cancel, retry, and keep the fleet.

use lull_coordinator::dispatch::submission::look_up;
use lull_scheduler::{
    effect::{Refusal, Reply},
    event::{Movable, Submission},
};
use lull_shared::{
    id::{AgentId, JobId, TokenId},
    job::{Dependency, DependencyCondition},
    state::{Intake, JobState},
};

use crate::sim::{
    coordinator::{Input, Leader, Request},
    events::{CoordinatorId, What},
    judged::promise::{Checked, Promise, hold},
    store::{MOVABLE, at_once, cost_percent},
    world::World,
};

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wish {
    /// The planned job with this number.
    Submit(usize),
    Cancel(JobId),
    Retry(JobId),
    Intake(AgentId, Intake),
}

/// Seconds after which somebody who got no answer asks again.
const PATIENCE: f64 = 20.0;
/// Agents that may be revoked, of a hundred.
const REVOKED_MAX: usize = 3;

impl World {
    /// Somebody turns to a coordinator, if there is one that thinks it leads.
    pub(crate) fn ask(&mut self, wish: Wish) {
        let leader: Vec<CoordinatorId> =
            (0..self.coordinators.len()).filter(|id| self.coordinators[*id].leader().is_some()).collect();
        let mut submission = None;
        if let (Wish::Submit(plan), Some(first)) = (wish, leader.first()) {
            let coordinator = leader[self.dice.people.index(leader.len())];
            let moment = self.coordinators[coordinator].moment();
            submission = self.submission(plan).map(|found| (coordinator, found, moment));
            if submission.is_none() && self.planned_jobs.contains_key(&plan) {
                return;
            }
            let _ = first;
        }
        if leader.is_empty() || (submission.is_none() && matches!(wish, Wish::Submit(_))) {
            let at = self.now + self.dice.people.seconds(3.0, 8.0);
            return self.queue.push(at, What::Ask { wish });
        }
        self.asks += 1;
        let number = self.asks;
        let (coordinator, input) = match (wish, submission) {
            (Wish::Submit(_), Some((coordinator, submission, moment))) => {
                (coordinator, Input::Submit { number, submission: Box::new(submission), moment })
            }
            (Wish::Cancel(job), _) => (leader[0], Input::Request { number, wish: Request::Cancel(job) }),
            (Wish::Intake(agent, intake), _) => (leader[0], Input::Request { number, wish: Request::Intake(agent, intake) }),
            (Wish::Retry(job), _) => (leader[0], Input::Retry { number, job }),
            (Wish::Submit(_), None) => return,
        };
        self.open_asks.insert(number, wish);
        self.note(|| format!("somebody asks: {wish:?}"));
        let life = self.coordinators[coordinator].life;
        // A large pack of inputs is read through before the loop hears of it.
        let reads = if self.dice.people.chance(0.2) { 30.0 } else { 0.05 };
        let at = self.now + self.dice.people.seconds(0.001, reads);
        self.queue.push(at, What::Arrives { coordinator, life, input: Box::new(input) });
        let gives_up = at + self.dice.people.seconds(PATIENCE, PATIENCE * 2.0);
        self.queue.push(gives_up, What::GivesUp { number });
    }

    /// What the edge makes of a planned job; none when its turn has not come, or it was submitted before.
    fn submission(&mut self, plan: usize) -> Option<Submission> {
        let planned = self.planned[plan].clone();
        let mut spec = planned.spec;
        for (before, ok) in planned.after {
            // A job that was refused is not waited for.
            if let Some(Some(job)) = self.planned_jobs.get(&before) {
                let condition = if ok { DependencyCondition::Ok } else { DependencyCondition::Any };
                spec.after.push(Dependency { job: *job, condition });
            } else if !self.planned_jobs.contains_key(&before) {
                return None;
            }
        }
        let seed = self.dice.people.seed();
        let movable = (spec.version.0 <= u64::from(MOVABLE)).then(|| Movable { cost_percent: cost_percent(spec.version.0) });
        let mut submission = Submission {
            owner: owner_called(planned.submitter),
            submitter: planned.submitter.to_owned(),
            spec,
            version_name: "function@1".into(),
            movable,
            seed,
            ended: Default::default(),
        };
        let store = self.database.store.clone();
        match at_once(look_up(&*store, &mut submission)) {
            Ok(None) => Some(submission),
            Ok(Some(Reply::Submitted { job, .. })) => {
                self.planned_jobs.insert(plan, Some(job));
                None
            }
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// A request reaches a coordinator, if it still lives.
    pub(crate) fn request_arrives(&mut self, id: CoordinatorId, life: u32, input: Input) {
        if self.coordinators[id].life == life {
            self.arrives(id, input);
        }
    }

    pub(crate) fn answered(&mut self, number: u64, reply: Reply) -> Checked {
        let Some(wish) = self.open_asks.remove(&number) else { return Ok(()) };
        self.note(|| format!("somebody is answered: {wish:?}: {reply:?}"));
        match (wish, reply) {
            (Wish::Submit(plan), Reply::Submitted { job, .. }) => {
                let before = self.planned_jobs.insert(plan, Some(job)).flatten();
                let what = || format!("{job} was submitted before as {before:?}");
                hold(Promise::CountedOnce, before.is_none_or(|before| before == job), what, &[job.into()])
            }
            (Wish::Submit(plan), Reply::Refused(Refusal::NoJob(job))) => {
                let known = self.ledger.jobs.contains_key(&job);
                hold(Promise::NothingLost, !known, || format!("plan {plan} was told that there is no {job}"), &[job.into()])?;
                self.planned_jobs.entry(plan).or_insert(None);
                Ok(())
            }
            (Wish::Submit(plan), Reply::Refused(_)) => {
                self.planned_jobs.entry(plan).or_insert(None);
                Ok(())
            }
            (Wish::Intake(agent, intake), Reply::Done { .. }) => {
                let recorded = self.ledger.intakes.get(&agent).copied().unwrap_or_default() == intake;
                // Another administrator may have had the last word.
                self.note(|| format!("{agent} is {}: {recorded}", intake.as_str()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// No answer: a submission is made again under its key, all else was not that important.
    pub(crate) fn gives_up(&mut self, number: u64) {
        if let Some(wish @ (Wish::Submit(_) | Wish::Intake(..))) = self.open_asks.remove(&number) {
            self.ask(wish);
        }
    }

    /// Somebody changes their mind about a job that runs.
    pub(crate) fn somebody_cancels(&mut self) {
        let active: Vec<JobId> = self.ledger.jobs.iter().filter(|(_, job)| !job.state.is_ended()).map(|(id, _)| *id).collect();
        if !active.is_empty() && self.dice.people.chance(0.5) {
            let job = active[self.dice.people.index(active.len())];
            self.ask(Wish::Cancel(job));
        }
    }

    /// Somebody wants what went wrong to run again.
    pub(crate) fn somebody_retries(&mut self) {
        let bad = |state: JobState| matches!(state, JobState::Failed | JobState::Cancelled | JobState::Expired);
        let ended: Vec<JobId> = self.ledger.jobs.iter().filter(|(_, job)| bad(job.state)).map(|(id, _)| *id).collect();
        if !ended.is_empty() {
            let job = ended[self.dice.people.index(ended.len())];
            self.ask(Wish::Retry(job));
        }
    }

    /// The administrator opens, cordons, drains and, rarely, revokes.
    pub(crate) fn somebody_keeps_the_fleet(&mut self) {
        let agent = AgentId(self.dice.people.number(1, self.machines.len() as u64 + 1));
        let revoked = self.ledger.intakes.values().filter(|intake| **intake == Intake::Revoked).count();
        let intake = match self.dice.people.number(0, 12) {
            0..4 => Intake::Open,
            4..7 => Intake::Cordoned,
            7..11 => Intake::Draining,
            _ if (revoked + 1) * 100 <= self.machines.len() * REVOKED_MAX => Intake::Revoked,
            _ => Intake::Open,
        };
        self.ask(Wish::Intake(agent, intake));
    }

    /// At the end everybody who is not revoked may work again.
    pub(crate) fn open_the_fleet(&mut self) {
        let closed = |intake: &Intake| matches!(intake, Intake::Cordoned | Intake::Draining);
        let agents: Vec<AgentId> =
            self.ledger.intakes.iter().filter(|(_, intake)| closed(intake)).map(|(agent, _)| *agent).collect();
        // Whatever was asked and not answered may still come true before.
        let waiting: Vec<AgentId> = self
            .open_asks
            .values()
            .filter_map(|wish| match wish {
                Wish::Intake(agent, Intake::Cordoned | Intake::Draining) => Some(*agent),
                _ => None,
            })
            .collect();
        self.open_asks.retain(|_, wish| matches!(wish, Wish::Submit(_)));
        for agent in agents.into_iter().chain(waiting) {
            let at = self.now + self.dice.people.seconds(60.0, 90.0);
            self.queue.push(at, What::Ask { wish: Wish::Intake(agent, Intake::Open) });
        }
    }

    /// The coordinator that leads by the store's word.
    pub(crate) fn leader(&self) -> Option<&Leader> {
        let mut leads = self.coordinators.iter().filter_map(|coordinator| coordinator.leader());
        leads.find(|leader| leader.lead.term == self.term)
    }
}

/// The token of whoever is called so.
fn owner_called(name: &str) -> TokenId {
    TokenId(name.bytes().fold(0, |number, byte| (number * 31 + u64::from(byte)) % 1_000_003))
}
