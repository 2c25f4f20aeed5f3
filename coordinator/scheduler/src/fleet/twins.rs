//! Cloned identities: two programs that take turns with one agent's identity, as after copying the disk of a machine that
//! has joined.
//!
//! Each start of an agent draws a number. A program that is restarted has a new number and the old one never comes back; one
//! whose network was cut or whose address changed keeps its number. So two numbers that each come back after the other,
//! within [`SPAN`], are two programs that run at the same time. One number that comes back once is a machine that was put
//! back to an earlier state, or a greeting that came late.
//!
//! Neither is given work, since each would be taken for having lost what the other holds. That ends when one of them has
//! enrolled anew, which its machine's number tells, or when an administrator trusts the agent.

use std::time::Duration;

use lull_shared::{
    id::AgentId,
    message::{GoodbyeReason, Instance},
    time::Timestamp,
};

use crate::{
    Scheduler,
    effect::{Change, Effect, Order},
    event::{AgentSnapshot, QuarantineKind},
};

/// How long a number that came back counts: longer than two programs stay away that superseded each other.
const SPAN: Duration = Duration::from_secs(3_600);
/// Starts of a program that are remembered: one that crashes over and over again is not two.
const SEEN_MAX: usize = 8;

/// The programs that came with an agent's identity.
#[derive(Debug, Clone, Default)]
pub(crate) struct Twins {
    /// The newest last.
    seen: Vec<Sighting>,
    /// Numbers that came back after another, and when.
    returns: Vec<(u64, Timestamp)>,
    /// Enrolled while this coordinator leads, and not heard of since.
    is_new: bool,
}

#[derive(Debug, Clone)]
struct Sighting {
    number: u64,
    machine: u64,
    from: String,
}

impl Twins {
    /// A program opened a stream. The reason for which it is one of two, if it is.
    fn meet(&mut self, instance: &Instance, from: String, now: Timestamp) -> Option<String> {
        if instance.number == 0 {
            return None;
        }
        let sighting = Sighting { number: instance.number, machine: instance.machine, from };
        let known = self.seen.iter().position(|seen| seen.number == sighting.number);
        let came_back = known.is_some_and(|at| at + 1 < self.seen.len());
        if let Some(at) = known {
            self.seen.remove(at);
        } else if self.seen.len() >= SEEN_MAX {
            self.seen.remove(0);
        }
        self.seen.push(sighting);
        if came_back {
            self.returns.retain(|(number, at)| *number != instance.number && now.since(*at) < SPAN);
            // No more than the last two say anything.
            self.returns.drain(..self.returns.len().saturating_sub(1));
            self.returns.push((instance.number, now));
        }
        let [.., (first, _), (second, _)] = self.returns[..] else { return None };
        let place = |number| {
            let seen = self.seen.iter().find(|seen| seen.number == number);
            seen.map_or_else(|| "elsewhere".to_owned(), |seen| format!("{} (machine {:08x})", seen.from, seen.machine >> 32))
        };
        Some(format!("two programs take turns with its identity, at {} and at {}", place(first), place(second)))
    }

    fn is_of(&self, machine: u64) -> bool {
        machine != 0 && self.seen.iter().any(|seen| seen.machine == machine)
    }

    /// How many programs are remembered, and how many that came back.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.seen.len(), self.returns.len())
    }

    /// What was seen so far proves nothing any more.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
        self.returns.clear();
    }
}

impl Scheduler {
    /// A machine was enrolled at this moment, or asked for a new certificate.
    pub(crate) fn enrolled_now(&mut self, snapshot: AgentSnapshot) {
        let (id, is_new) = (snapshot.agent, self.fleet.get(snapshot.agent).is_none());
        self.enrolled(snapshot);
        self.fleet.known(id).twins.is_new |= is_new;
    }

    /// An agent said hello: whether another program uses its identity. Whoever is enrolled anew clears the one that it was.
    pub(crate) fn is_cloned(&mut self, id: AgentId, instance: &Instance, from: String) -> bool {
        let now = self.now;
        let agent = self.fleet.known(id);
        let found = agent.twins.meet(instance, from, now);
        let is_new = std::mem::take(&mut agent.twins.is_new);
        if let Some(reason) = found
            && self.distrust(id, QuarantineKind::Cloned, reason)
        {
            self.send(id, Order::Goodbye { reason: GoodbyeReason::Cloned });
            self.close_stream(id);
        }
        if is_new {
            self.clear_former(id, instance.machine);
        }
        self.fleet.agent(id).quarantine.as_ref().is_some_and(|quarantine| quarantine.kind == QuarantineKind::Cloned)
    }

    /// A machine has an identity of its own now: there is one program less with that of another agent.
    fn clear_former(&mut self, id: AgentId, machine: u64) {
        let cloned = self.fleet.iter().filter(|(other, agent)| {
            let cloned = agent.quarantine.as_ref().is_some_and(|quarantine| quarantine.kind == QuarantineKind::Cloned);
            cloned && *other != id && agent.twins.is_of(machine)
        });
        let cleared: Vec<AgentId> = cloned.map(|(id, _)| id).collect();
        for other in cleared {
            // Whoever else still uses it is found out again.
            let agent = self.fleet.known(other);
            agent.quarantine = None;
            agent.twins.forget();
            let by = format!("the enrolment of {id}");
            self.effects.push_back(Effect::Record(Change::AgentTrusted { agent: other, by, at: self.wall() }));
        }
    }
}
