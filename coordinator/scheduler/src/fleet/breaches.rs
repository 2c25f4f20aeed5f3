//! What becomes of the work of agents that break the protocol.
//!
//! A breach ends the stream, and an attempt goes on with the next stream: most breaches say nothing about it. Two say that
//! nothing will come of it. One that tells an attempt's end names it: that attempt is over, and its agent need not tell it
//! again. And an agent that breaks the protocol time and again without a result in between loses everything that it has.
//! Both are the agent's trouble: they cost no retry, the tasks start elsewhere, and the agent is asked for the same job only
//! after a pause that grows, whatever streams it opens meanwhile.

use lull_shared::{
    id::{AgentId, AttemptId},
    message::GoodbyeReason,
};

use crate::{
    Scheduler,
    attempts::{attempt::REASON_BYTES_MAX, troubled::Own},
    effect::{Change, Effect, Order},
    event::StreamId,
    fleet::agents::Lack,
};

impl Scheduler {
    /// The agent broke the protocol on its newest stream, maybe when it told the ends of these attempts.
    pub(crate) fn breach(&mut self, id: AgentId, what: String, told: &[AttemptId]) {
        if self.note_breach(id) {
            let held: Vec<_> = self.fleet.agent(id).held.keys().copied().collect();
            self.end_breaching(id, &what, &held);
        } else {
            self.end_breaching(id, &what, told);
        }
        if !told.is_empty() {
            self.flush_acknowledge(id, told.to_vec());
        }
        self.send(id, Order::Goodbye { reason: GoodbyeReason::Protocol(what) });
        self.miss(id);
    }

    /// The edge found that an agent broke the protocol. On a stream that is not its newest that ends only the stream, and
    /// what it told.
    pub(crate) fn breached(&mut self, id: AgentId, stream: Option<StreamId>, what: String, told: &[AttemptId]) {
        let Some(agent) = self.fleet.get_mut(id) else { return };
        if stream.is_some() && agent.stream().map(|current| current.id) == stream {
            return self.breach(id, what, told);
        }
        agent.misdeeds.breaches += 1;
        self.end_breaching(id, &what, told);
        if let Some(stream) = stream {
            let order = Order::Goodbye { reason: GoodbyeReason::Protocol(what) };
            self.effects.push_back(Effect::Send { agent: id, stream, number: 1, order });
        }
    }

    /// Counts a breach. Whether it is one too many in a row.
    fn note_breach(&mut self, id: AgentId) -> bool {
        let (now, span, max) = (self.now, self.limits.breach_span, self.limits.breaches_max);
        let misdeeds = &mut self.fleet.known(id).misdeeds;
        misdeeds.breaches += 1;
        let lately = misdeeds.last_breach.replace(now).is_some_and(|last| now.since(last) < span);
        misdeeds.in_a_row = if lately { misdeeds.in_a_row.saturating_add(1) } else { 1 };
        misdeeds.in_a_row >= max
    }

    /// Ends those of these attempts that the agent holds, as its own doing.
    fn end_breaching(&mut self, id: AgentId, what: &str, attempts: &[AttemptId]) {
        let mut ended = 0;
        for attempt in attempts {
            if !self.fleet.get(id).is_some_and(|agent| agent.held.contains_key(attempt)) {
                continue;
            }
            self.fleet.known(id).note_answered(*attempt);
            let own = Own::Breach(what);
            self.end_as_its_own(id, *attempt, own);
            self.note_refusal(id, attempt.task.job, own.to_string(), Lack::Manners);
            ended += 1;
        }
        if ended == 0 {
            return;
        }
        let mut what = what.to_owned();
        what.truncate(what.floor_char_boundary(REASON_BYTES_MAX));
        let change = Change::AgentBreached { agent: id, what, attempts: ended, at: self.wall() };
        self.effects.push_back(Effect::Record(change));
    }
}
