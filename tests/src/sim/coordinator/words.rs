//! What a coordinator and its agents say to each other, checked on its way.

use std::time::Duration;

use lull_coordinator::{
    dispatch::turn::{Outgoing, Sealed},
    fleet::claims::{self, Wrong},
};
use lull_scheduler::{
    effect::{Order, Reply},
    event::{Event, StreamId},
};
use lull_shared::{
    id::AgentId,
    message::{GoodbyeReason, RecallReason, ToAgent, ToAgentFrame, ToCoordinator},
    resources::Capacity,
};

use super::{
    super::{
        events::{CoordinatorId, What},
        judged::promise::{Checked, Promise, Subject, Violation, hold},
        machines::link::LinkId,
        options::Mutation,
        people::plan,
        store::at_once,
        world::World,
    },
    Input,
};

impl World {
    pub(super) fn send_sealed(&mut self, id: CoordinatorId, sealed: Sealed) -> Checked {
        for Outgoing { agent, stream, number, order } in sealed.orders {
            self.check_order(agent, &order)?;
            let last = matches!(order, Order::Goodbye { .. });
            let Some(leader) = self.coordinators[id].leader_mut() else { return Ok(()) };
            let Some((link, framer)) = leader.links.get_mut(&stream) else { continue };
            let (link, frames) = (*link, at_once(framer.frames(number, order)));
            let given_back = framer.given_back();
            frames.into_iter().for_each(|frame| self.send_to_agent(link, frame));
            given_back.into_iter().for_each(|event| self.arrives(id, Input::Event(Box::new(event))));
            if last {
                self.coordinators[id].leader_mut().map(|leader| leader.links.remove(&stream));
                self.close_from_coordinator(link);
            }
        }
        if let Some(leader) = self.coordinators[id].leader_mut() {
            leader.looks.extend(sealed.looks);
        }
        for own_copy in sealed.own_copies {
            self.own_copy(id, own_copy);
        }
        for (request, reply) in sealed.replies {
            let Some(number) = self.coordinators[id].leader_mut().and_then(|leader| leader.replies.remove(&request)) else {
                continue;
            };
            self.check_reply(&reply)?;
            let at = self.now + self.dice.coordinators.seconds(0.001, 0.01);
            self.queue.push(at, What::Answered { number, reply });
        }
        Ok(())
    }

    /// Nothing is ordered that the store does not know.
    fn check_order(&self, agent: AgentId, order: &Order) -> Checked {
        let unrecorded = |what: String, about: &[Subject]| Err(Violation::new(Promise::RecordBeforeSend, what, about));
        match order {
            Order::Assign { attempts } => {
                match attempts.iter().map(|given| &given.attempt).find(|attempt| !self.ledger.knows(**attempt)) {
                    Some(attempt) => unrecorded(
                        format!("{agent} is given {attempt}, which is not in the store"),
                        &[(*attempt).into(), agent.into()],
                    ),
                    None => Ok(()),
                }
            }
            Order::Acknowledge { attempts } => {
                let early = |attempt: &&_| self.ledger.live_at(**attempt) == Some(agent) || !self.ledger.knows(**attempt);
                match attempts.iter().find(early) {
                    Some(attempt) => unrecorded(
                        format!("{agent} is told that the result of {attempt} is durable, and it is not"),
                        &[(*attempt).into(), agent.into()],
                    ),
                    None => Ok(()),
                }
            }
            Order::Brief { job } if !self.ledger.jobs.contains_key(job) => {
                unrecorded(format!("{agent} is told of {job}, which is not in the store"), &[(*job).into()])
            }
            Order::Recall { attempts, reason: RecallReason::Cancelled } => {
                let running = |attempt: &&lull_shared::id::AttemptId| {
                    let stopped = self.ledger.jobs.get(&attempt.task.job).is_some_and(|job| job.stop.is_some());
                    !stopped && self.ledger.is_live(**attempt)
                };
                match attempts.iter().find(running) {
                    Some(attempt) => unrecorded(
                        format!("{attempt} is cancelled at {agent}, and the store does not know why"),
                        &[(*attempt).into(), agent.into()],
                    ),
                    None => Ok(()),
                }
            }
            Order::Intake(intake) if !self.ledger.may_be_told(agent, *intake) => {
                unrecorded(format!("{agent} is told that it is {}, and the store is not", intake.as_str()), &[agent.into()])
            }
            Order::Discard { snapshots } => match snapshots.iter().find(|digest| self.ledger.needs(**digest, agent)) {
                Some(digest) => {
                    unrecorded(format!("{agent} is to discard {digest}, from which a task is to go on"), &[agent.into()])
                }
                None => Ok(()),
            },
            Order::Brief { .. }
            | Order::Recall { .. }
            | Order::Keep { .. }
            | Order::Safe { .. }
            | Order::Wake { .. }
            | Order::Intake(_)
            | Order::Welcome { .. }
            | Order::Forget { .. }
            | Order::Goodbye { .. } => Ok(()),
        }
    }

    fn check_reply(&self, reply: &Reply) -> Checked {
        match reply {
            Reply::Submitted { job, .. } => {
                let known = self.ledger.jobs.contains_key(job);
                hold(Promise::RecordBeforeSend, known, || format!("{job} was promised and is not in the store"), &[(*job).into()])
            }
            Reply::Done { .. } | Reply::Refused(_) => Ok(()),
        }
    }

    /// A frame of an agent reaches the coordinator's edge.
    pub(crate) fn coordinator_hears(&mut self, link: LinkId, messages: Vec<ToCoordinator>) -> Checked {
        let stream = &self.links[link];
        let (id, agent) = (stream.coordinator, stream.agent);
        if stream.broken || self.coordinators[id].life != stream.coordinator_life {
            return Ok(());
        }
        if stream.stalled_until > self.now {
            let at = stream.stalled_until;
            self.queue.push(at, What::ToCoordinator { link, messages });
            return Ok(());
        }
        for mut message in messages {
            plan::garble(&self.options, agent, &mut message);
            let number = self.links[link].number;
            match (number, message) {
                (None, ToCoordinator::Hello(hello)) => {
                    if let Err(reason) = claims::check_hello(agent, &hello) {
                        self.refuse(link, reason);
                        return Ok(());
                    }
                    self.streams += 1;
                    let stream = StreamId(self.streams);
                    self.links[link].number = Some(stream);
                    self.arrives(id, Input::Attach { stream, link });
                    self.arrives(id, Input::Event(Box::new(Event::Connected { agent, stream, hello, from: String::new() })));
                }
                (None, _) => {
                    self.refuse(link, GoodbyeReason::Protocol("the first message must be `Hello`".into()));
                    return Ok(());
                }
                (Some(stream), message) => match at_once(claims::check(&*self.database.store, agent, message)) {
                    Ok(message) => {
                        if self.options.mutation == Some(Mutation::AcknowledgeOnArrival) {
                            self.acknowledge_early(link, &message);
                        }
                        self.arrives(id, Input::Event(Box::new(Event::Message { agent, stream, message })));
                    }
                    Err(Wrong::Breach { what, told }) => {
                        let stream = Some(stream);
                        self.arrives(id, Input::Event(Box::new(Event::Breach { agent, stream, what, told })));
                        return Ok(());
                    }
                    Err(Wrong::Unknown(_)) => {
                        self.cut(link, Duration::from_millis(1), Duration::ZERO);
                        return Ok(());
                    }
                },
            }
        }
        Ok(())
    }

    fn refuse(&mut self, link: LinkId, reason: GoodbyeReason) {
        self.summary.refused_agents += 1;
        self.send_to_agent(link, ToAgentFrame { number: 0, messages: vec![ToAgent::Goodbye { reason }] });
        self.close_from_coordinator(link);
    }

    pub(crate) fn coordinator_sees_end(&mut self, link: LinkId) {
        let stream = &mut self.links[link];
        stream.broken = true;
        let (id, agent) = (stream.coordinator, stream.agent);
        if let Some(stream) = stream.number.take()
            && self.coordinators[id].life == self.links[link].coordinator_life
        {
            self.arrives(id, Input::Event(Box::new(Event::Disconnected { agent, stream })));
        }
    }

    pub(crate) fn gossip_arrives(&mut self, capacity: Capacity) {
        for id in 0..self.coordinators.len() {
            if self.coordinators[id].leader().is_some() {
                self.arrives(id, Input::Event(Box::new(Event::Capacity { capacity: capacity.clone() })));
            }
        }
    }

    fn acknowledge_early(&mut self, link: LinkId, message: &ToCoordinator) {
        if let ToCoordinator::Finished(finished) = message {
            let attempts = finished.iter().map(|record| record.attempt).collect();
            self.send_to_agent(link, ToAgentFrame { number: 0, messages: vec![ToAgent::Acknowledge { attempts }] });
        }
    }
}
