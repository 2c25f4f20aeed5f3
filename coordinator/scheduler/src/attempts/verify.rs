//! Whether an output can be believed: a share of a job's tasks runs on a second agent, and if the two differ on a third.
//!
//! ```text
//! output of a chosen task --nothing to compare--> kept (its digest), runs again with another agent
//!                         --same as another's---> succeeds; whoever brought a different one is quarantined
//!                         --differs from one----> kept, runs again with a third agent
//!                         --differs from two----> fails: the function is not deterministic, nobody is to blame
//! ```
//! Outputs are compared by their digests. Each must be the work of one agent alone: a chosen task runs with the plain
//! build, leaves no snapshots, and never twice with one agent. If there is no other agent, it waits for one.
//!
//! Tasks are chosen by the job's seed and their index. Agents know neither: the seed that functions see is made from it
//! by a one-way function.

use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, TaskId, TaskIndex},
    share::Share,
    state::{AttemptEnd, Failure, Intake},
};

use crate::{
    Scheduler,
    attempts::attempt::Ending,
    effect::{Change, Effect, Order, Refusal, Reply},
    event::{Answer, Quarantine, QuarantineKind},
    jobs::{job::Job, retry::mix},
};

/// Outputs of one task that all differ before it is given up.
const DIFFERENT_MAX: usize = 3;

/// What becomes of an output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts; these agents brought another one.
    Counts { liars: Vec<AgentId> },
    /// It is kept until another agent has brought one.
    Kept,
    /// No two are alike.
    Disagree,
}

/// Whether the task with this index is one of the share that is verified.
pub fn is_chosen(share: Share, seed: u64, index: TaskIndex) -> bool {
    mix(seed ^ mix(u64::from(index))) % u64::from(Share::WHOLE) < u64::from(share.hundredths())
}

/// Compares an output with those that other agents brought.
pub(crate) fn judge(answers: &[Answer], digest: Digest) -> Verdict {
    if answers.iter().any(|answer| answer.digest == digest) {
        let others = answers.iter().filter(|answer| answer.digest != digest);
        return Verdict::Counts { liars: others.map(|answer| answer.agent).collect() };
    }
    if answers.len() + 1 < DIFFERENT_MAX { Verdict::Kept } else { Verdict::Disagree }
}

impl Job {
    /// Whether the output of this task must be confirmed.
    pub(crate) fn verifies(&self, index: TaskIndex) -> bool {
        self.new.spec.verify != Share::NONE && is_chosen(self.new.spec.verify, self.new.seed, index)
    }
}

impl Scheduler {
    /// Holds an output of a chosen task against what others brought. Whoever is found to have lied.
    pub(crate) fn verify(&mut self, id: AgentId, attempt: AttemptId, ending: &mut Ending) -> Vec<AgentId> {
        let (index, number) = (attempt.task.index, attempt.number);
        let job = self.jobs.get_mut(&attempt.task.job).expect("a live attempt's job is active");
        let Some(output) = ending.output.as_ref().filter(|_| job.verifies(index)) else { return Vec::new() };
        let digest = output.digest();
        match judge(job.tasks.answers(index), digest) {
            Verdict::Counts { liars } => return liars,
            Verdict::Kept => {
                job.tasks.add_answer(index, Answer { number, agent: id, digest });
                let digest_start: String = digest.to_string().chars().take(12).collect();
                ending.keep(digest, format!("its output {digest_start} is compared with that of another agent"));
            }
            Verdict::Disagree => ending.fail(Failure::NotDeterministic { runs: DIFFERENT_MAX as u32 }),
        }
        Vec::new()
    }

    /// The task has ended, or is about to: nothing of it is compared any more.
    pub(crate) fn drop_answers(&mut self, task: TaskId) {
        let Some(job) = self.jobs.get_mut(&task.job) else { return };
        if job.tasks.drop_answers(task.index) {
            self.effects.push_back(Effect::Record(Change::AnswersDropped { task }));
        }
    }

    /// Two agents contradicted this one: it gets nothing more, and what it has goes elsewhere.
    pub(crate) fn quarantine(&mut self, id: AgentId, task: TaskId) {
        let reason = format!("its output of {task} differs from what two other agents brought");
        self.distrust(id, QuarantineKind::Output, reason);
    }

    /// Nothing of the agent is believed any more, and what it has goes elsewhere. Whether that is new.
    pub(crate) fn distrust(&mut self, id: AgentId, kind: QuarantineKind, reason: String) -> bool {
        let now = self.wall();
        let agent = self.fleet.known(id);
        if agent.quarantine.is_some() {
            return false;
        }
        agent.quarantine = Some(Box::new(Quarantine { kind, since: now, reason: reason.clone() }));
        self.effects.push_back(Effect::Record(Change::AgentQuarantined { agent: id, kind, reason, at: now }));
        self.send(id, Order::Intake(Intake::Cordoned));
        let held: Vec<_> = self.fleet.agent(id).held.keys().copied().collect();
        for attempt in held {
            let stopping = self.jobs.get(&attempt.task.job).is_some_and(|job| job.stopping.is_some());
            let end = if stopping { AttemptEnd::Cancelled } else { AttemptEnd::Recalled };
            self.withdraw(id, attempt, "its agent was quarantined", end);
        }
        true
    }

    /// An administrator trusts the agent again.
    pub(crate) fn trust(&mut self, id: AgentId, by: String) -> Result<Reply, Refusal> {
        let agent = self.fleet.get_mut(id).ok_or(Refusal::NoAgent(id))?;
        let intake = agent.intake;
        if agent.quarantine.take().is_none() {
            return Ok(Reply::Done { affected: 0 });
        }
        agent.twins.forget();
        agent.punctuality.forget();
        self.effects.push_back(Effect::Record(Change::AgentTrusted { agent: id, by, at: self.wall() }));
        self.send(id, Order::Intake(intake));
        self.wake_agent(id);
        Ok(Reply::Done { affected: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(agent: u64, output: u8) -> Answer {
        Answer { number: agent as u32, agent: AgentId(agent), digest: Digest::of(&[output]) }
    }

    #[test]
    fn two_equal_outputs_are_believed_and_the_third_was_a_lie() {
        let digest = Digest::of(&[1]);
        assert_eq!(judge(&[], digest), Verdict::Kept);
        assert_eq!(judge(&[answer(1, 1)], digest), Verdict::Counts { liars: vec![] });
        assert_eq!(judge(&[answer(1, 2)], digest), Verdict::Kept);
        assert_eq!(judge(&[answer(1, 2), answer(2, 1)], digest), Verdict::Counts { liars: vec![AgentId(1)] });
        assert_eq!(judge(&[answer(1, 1), answer(2, 2)], digest), Verdict::Counts { liars: vec![AgentId(2)] });
        assert_eq!(judge(&[answer(1, 2), answer(2, 3)], digest), Verdict::Disagree);
    }

    #[test]
    fn about_the_share_is_chosen_and_always_the_same() {
        let chosen = |share: &str, seed| {
            let share = share.parse().expect("a share");
            (0..10_000).filter(|index| is_chosen(share, seed, *index)).count()
        };
        assert_eq!((chosen("0%", 1), chosen("100%", 1)), (0, 10_000));
        assert!((400..600).contains(&chosen("5%", 1)) && (400..600).contains(&chosen("5%", 2)), "{}", chosen("5%", 1));
        assert_eq!(chosen("5%", 7), chosen("5%", 7));
    }
}
