//! Second copies of snapshots: a machine that is switched off costs its tasks at most what they did since the last one.
//!
//! ```text
//! Saved --> somebody is asked to keep a copy --Keeps--> in two places: the snapshot before is discarded
//!             ^   | Unkept, gone, silent for too long        |  one of them goes
//!             +---+--------------- looked at again <---------+
//! Unkept, since it leaves --> others have it: Safe   nobody has: somebody is asked, then Safe
//! ```
//! A keeper is any agent that could be given work now: neither in its owner's way nor on a metered network, as it said.
//! If there is none, this coordinator keeps a copy itself, within a budget. Until the newest snapshot is in two places the
//! one before stays where it is, and the task goes on from that if nobody who has the newest can be reached.
//!
//! A keeper's word is a claim. What it can do is to say that it has what it has not: whoever fetches the snapshot checks
//! the digest, and takes it from another holder or begins anew.

use std::time::Duration;

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, TaskId},
    message::{KeptSnapshot, SnapshotRef, UnkeptReason},
};

use crate::{
    Scheduler,
    effect::{Change, Effect, OwnCopy},
    event::Saved,
    fleet::agents::{Agent, Link},
    snapshots::kept_snapshots::{Asked, Entry, Keeper, Kept},
    time::timers::Timer,
};

/// In how many places a snapshot is to be: two machines are seldom switched off within the same seconds.
const PLACES: usize = 2;
/// Snapshots of other machines that one agent is asked to keep at most: half of what it may have, the rest is its own.
const KEPT_PER_AGENT_MAX: usize = lull_shared::limits::SNAPSHOTS_PER_AGENT_MAX / 2;
/// How long a keeper may take for its answer: the largest snapshot through a slow network.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a keeper may be away before another is asked: most streams that break are back within seconds.
const AWAY_TIME_MAX: Duration = Duration::from_secs(30);
/// When it is looked again for somebody who keeps a copy after nobody could.
const AGAIN: Duration = Duration::from_secs(60);
/// Agents that are looked at for one that could keep a copy, and those among which the one with the fewest is chosen.
const LOOKS_MAX: usize = 1024;
const CHOICES_MAX: usize = 32;

impl Scheduler {
    /// An agent keeps a newer snapshot of a task: its copies are counted from now on.
    pub(crate) fn begin_kept_snapshots(&mut self, task: TaskId, snapshot: SnapshotRef, maker: AgentId) {
        let newest = Kept::of(snapshot, [maker]);
        self.kept_snapshots.due.insert(task);
        if self.kept_snapshots.get(task).is_none() {
            return self.kept_snapshots.insert(task, Entry::new(newest));
        }
        let same = |entry: &mut Entry| {
            let same = entry.newest.digest() == newest.digest();
            same.then(|| entry.newest.holders.insert(maker)).is_some()
        };
        if self.kept_snapshots.change(task, same) == Some(true) {
            return;
        }
        let replaced = self.kept_snapshots.change(task, |entry| {
            let asked = entry.asked.take();
            entry.declined.clear();
            let old = std::mem::replace(&mut entry.newest, newest);
            let unused = if old.places() >= PLACES { entry.before.replace(old) } else { Some(old) };
            (unused, asked)
        });
        let Some((unused, asked)) = replaced else { return };
        if let Some(copies) = unused {
            self.discard_copies(copies, asked);
        }
    }

    /// Nobody goes on from a task's snapshots any more.
    pub(crate) fn end_kept_snapshots(&mut self, task: TaskId) {
        let Some(Entry { newest, before, asked, .. }) = self.kept_snapshots.remove(task) else { return };
        self.discard_copies(newest, asked);
        before.into_iter().for_each(|copies| self.discard_copies(copies, None));
    }

    /// What a store remembers of a task's snapshot: agents will say who has it.
    pub(crate) fn restore_kept_snapshots(&mut self, task: TaskId, snapshot: SnapshotRef) {
        self.kept_snapshots.insert(task, Entry::new(Kept::of(snapshot, [])));
    }

    /// An agent has this snapshot, and stays. It counts for every task that goes on from it, whichever the agent names.
    pub(crate) fn keeps(&mut self, id: AgentId, kept: KeptSnapshot) {
        let tasks = self.kept_snapshots.tasks_from(kept.digest);
        if tasks.is_empty() {
            return self.discard_at(id, kept.digest);
        }
        for task in tasks {
            let after = self.kept_snapshots.change(task, |entry| {
                let newest = entry.newest.digest() == kept.digest;
                entry.answered(Keeper::Agent(id));
                let copies = entry.copies_mut(kept.digest)?;
                copies.leaving.remove(&id);
                copies.holders.insert(id);
                newest.then(|| take_unneeded(entry))
            });
            self.after_copy(task, after.flatten());
        }
    }

    /// An agent does not have this snapshot, or will not for long.
    pub(crate) fn unkept(&mut self, id: AgentId, kept: KeptSnapshot, reason: UnkeptReason) {
        let leaves = reason == UnkeptReason::Leaving;
        let mut all_safe = true;
        for task in self.kept_snapshots.tasks_from(kept.digest) {
            self.kept_snapshots.due.insert(task);
            let safe = self.kept_snapshots.change(task, |entry| {
                if entry.has_asked(Keeper::Agent(id)) {
                    entry.asked = None;
                    entry.declined.insert(Keeper::Agent(id));
                }
                let newest = entry.newest.digest() == kept.digest;
                let copies = entry.copies_mut(kept.digest)?;
                let had = copies.agents().any(|agent| agent == id);
                copies.without(id);
                let safe = !newest || copies.places() > 0 || !had;
                if leaves && !safe {
                    copies.leaving.insert(id);
                }
                Some(safe)
            });
            all_safe &= safe.flatten().unwrap_or(true);
        }
        if leaves && all_safe {
            self.tell_safe(id, kept.digest);
        }
    }

    /// This coordinator has these snapshots.
    pub(crate) fn kept_here(&mut self, blobs: Vec<BlobRef>) {
        for blob in blobs {
            let tasks = self.kept_snapshots.tasks_from(blob.digest);
            if tasks.is_empty() {
                self.effects.push_back(Effect::OwnCopy(OwnCopy::Discard(blob.digest)));
            }
            for task in tasks {
                let after = self.kept_snapshots.change(task, |entry| {
                    let newest = entry.newest.digest() == blob.digest;
                    entry.answered(Keeper::Here);
                    entry.copies_mut(blob.digest)?.here = true;
                    newest.then(|| take_unneeded(entry))
                });
                self.after_copy(task, after.flatten());
            }
        }
    }

    /// This coordinator could not fetch a snapshot.
    pub(crate) fn not_kept_here(&mut self, digest: Digest) {
        for task in self.kept_snapshots.tasks_from(digest) {
            self.kept_snapshots.due.insert(task);
            self.kept_snapshots.change(task, |entry| {
                if entry.newest.digest() == digest && entry.has_asked(Keeper::Here) {
                    entry.asked = None;
                    entry.declined.insert(Keeper::Here);
                }
            });
        }
    }

    /// An agent said hello: this is all that it keeps.
    pub(crate) fn relearn_kept(&mut self, id: AgentId, kept: Vec<KeptSnapshot>) {
        for task in self.kept_snapshots.tasks_of(id) {
            self.forget_at(task, id);
        }
        kept.into_iter().for_each(|kept| self.keeps(id, kept));
    }

    /// An agent's stream closed: others are asked if it does not come back soon.
    pub(crate) fn lose_keeper(&mut self, id: AgentId) {
        for task in self.kept_snapshots.tasks_of(id) {
            let waits = self.kept_snapshots.get(task).is_some_and(|entry| entry.newest.holders.contains(&id));
            if waits {
                self.kept_snapshots.look_later(task, self.now + AWAY_TIME_MAX);
            } else {
                self.forget_at(task, id);
            }
        }
    }

    /// An agent has gone silent: others are asked if it does not come back soon.
    pub(crate) fn doubt_keeper(&mut self, id: AgentId) {
        for task in self.kept_snapshots.tasks_of(id) {
            self.kept_snapshots.look_later(task, self.now + AWAY_TIME_MAX);
        }
    }

    /// The time has come to look at some tasks again.
    pub(crate) fn look_for_keepers(&mut self) {
        self.kept_snapshots.wake(self.now);
    }

    /// Asks for copies of those snapshots that are in too few places.
    pub(crate) fn seek_keepers(&mut self) {
        while let Some(task) = self.kept_snapshots.due.pop_first() {
            self.seek_keeper(task);
        }
        self.timers.set_or_clear(Timer::Keepers, self.kept_snapshots.next_look());
    }

    fn seek_keeper(&mut self, task: TaskId) {
        let Some(entry) = self.kept_snapshots.get(task) else { return };
        let newest = &entry.newest;
        let reached = newest.holders.iter().filter(|agent| self.is_connected(**agent)).count() + usize::from(newest.here);
        let source = reached > 0 || newest.leaving.iter().any(|agent| self.is_connected(*agent));
        if reached >= PLACES || !source {
            return;
        }
        if let Some(Asked { keeper, since }) = entry.asked {
            let until = since + ANSWER_TIME_MAX;
            let there = match keeper {
                Keeper::Agent(agent) => self.is_connected(agent),
                Keeper::Here => true,
            };
            if there && self.now < until {
                return self.kept_snapshots.look_later(task, until);
            }
            self.kept_snapshots.change(task, |entry| entry.asked.take().map(|asked| entry.declined.insert(asked.keeper)));
        }
        match self.keeper_for(task) {
            Some(keeper) => self.ask_to_keep(task, keeper),
            None => {
                self.kept_snapshots.change(task, |entry| entry.declined.clear());
                self.kept_snapshots.look_later(task, self.now + AGAIN);
            }
        }
    }

    fn ask_to_keep(&mut self, task: TaskId, keeper: Keeper) {
        let asked = Asked { keeper, since: self.now };
        let blob = self.kept_snapshots.change(task, |entry| {
            entry.asked = Some(asked);
            entry.newest.snapshot.blob
        });
        let Some(blob) = blob else { return };
        self.kept_snapshots.look_later(task, self.now + ANSWER_TIME_MAX);
        match keeper {
            Keeper::Agent(id) => {
                self.fleet.known(id).outgoing.keep.push((task, blob));
            }
            Keeper::Here => self.effects.push_back(Effect::OwnCopy(OwnCopy::Keep(blob))),
        }
    }

    /// Who is to keep a copy: whoever runs the task from it has it already; else one of those with the fewest.
    fn keeper_for(&self, task: TaskId) -> Option<Keeper> {
        let entry = self.kept_snapshots.get(task)?;
        let job = self.jobs.get(&task.job).filter(|job| job.stopping.is_none())?;
        let could = |id: AgentId, agent: &Agent| {
            agent.takes_work()
                && self.kept_snapshots.load(id) < KEPT_PER_AGENT_MAX
                && !entry.newest.agents().any(|holder| holder == id)
                && !entry.declined.contains(&Keeper::Agent(id))
        };
        let mut live = job.tasks.copies(task.index).into_iter().flat_map(|copies| copies.iter()).map(|live| live.agent);
        if let Some(live) = live.find(|id| self.fleet.get(*id).is_some_and(|agent| could(*id, agent))) {
            return Some(Keeper::Agent(live));
        }
        let chosen = self.fleet.around(spread(entry.newest.digest())).take(LOOKS_MAX).filter(|(id, agent)| could(*id, agent));
        let chosen = chosen.take(CHOICES_MAX).map(|(id, _)| id).min_by_key(|id| self.kept_snapshots.load(*id));
        chosen.map(Keeper::Agent).or_else(|| {
            let size_bytes = entry.newest.snapshot.blob.size_bytes;
            let fits = self.kept_snapshots.here_bytes().saturating_add(size_bytes) <= self.limits.snapshots_here_bytes_max;
            (fits && !entry.newest.here && !entry.declined.contains(&Keeper::Here)).then_some(Keeper::Here)
        })
    }

    /// The task goes on from the snapshot before its newest, if only that can be had.
    pub(crate) fn fall_back_if_away(&mut self, task: TaskId) {
        let Some(entry) = self.kept_snapshots.get(task) else { return };
        if !self.is_reached(&entry.newest) && entry.before.as_ref().is_some_and(|before| self.is_reached(before)) {
            self.fall_back(task);
        }
    }

    /// Whether somebody who is there has the task's newest snapshot.
    pub(crate) fn can_be_had(&self, task: TaskId) -> bool {
        self.kept_snapshots.get(task).is_some_and(|entry| self.is_reached(&entry.newest))
    }

    fn is_reached(&self, copies: &Kept) -> bool {
        copies.here || copies.agents().any(|agent| self.is_connected(agent))
    }

    /// The task goes on from the snapshot before its newest. Whether that is still kept.
    pub(crate) fn fall_back(&mut self, task: TaskId) -> bool {
        let replaced = self.kept_snapshots.change(task, |entry| {
            let before = entry.before.take()?;
            let chosen = (before.snapshot, before.agents().next());
            Some((chosen, std::mem::replace(&mut entry.newest, before), entry.asked.take()))
        });
        let Some(Some(((snapshot, keeper), unused, asked))) = replaced else { return false };
        let Some(job) = self.jobs.get_mut(&task.job) else { return false };
        let Some(maker) = job.tasks.saved(task.index).map(|saved| saved.agent) else { return false };
        let agent = keeper.unwrap_or(maker);
        job.tasks.save(task.index, Saved { snapshot, agent });
        self.kept_snapshots.due.insert(task);
        self.discard_copies(unused, asked);
        self.effects.push_back(Effect::Record(Change::SnapshotChosen { task, agent, snapshot, at: self.wall() }));
        true
    }

    /// A copy arrived: whoever waits for it may go, and the snapshot before has had its time.
    fn after_copy(&mut self, task: TaskId, unneeded: Option<Unneeded>) {
        self.kept_snapshots.due.insert(task);
        let Some(Unneeded { digest, may_go, before }) = unneeded else { return };
        may_go.into_iter().for_each(|agent| self.tell_safe(agent, digest));
        before.into_iter().for_each(|copies| self.discard_copies(copies, None));
    }

    fn forget_at(&mut self, task: TaskId, id: AgentId) {
        self.kept_snapshots.due.insert(task);
        self.kept_snapshots.change(task, |entry| {
            entry.answered(Keeper::Agent(id));
            entry.newest.without(id);
            entry.before.iter_mut().for_each(|copies| copies.without(id));
        });
    }

    /// Copies that their task needs no more. Where another task counts on the same bytes they stay.
    fn discard_copies(&mut self, copies: Kept, asked: Option<Asked>) {
        let digest = copies.digest();
        let asked = asked.map(|asked| asked.keeper);
        let mut keepers: Vec<Keeper> = copies.agents().map(Keeper::Agent).chain(asked).collect();
        if copies.here && asked != Some(Keeper::Here) {
            keepers.push(Keeper::Here);
        }
        keepers.retain(|keeper| !self.kept_snapshots.counts_on(*keeper, digest));
        for keeper in keepers {
            match keeper {
                Keeper::Agent(agent) => self.discard_at(agent, digest),
                Keeper::Here => self.effects.push_back(Effect::OwnCopy(OwnCopy::Discard(digest))),
            }
        }
    }

    pub(crate) fn discard_at(&mut self, id: AgentId, digest: Digest) {
        let Some(agent) = self.fleet.get_mut(id).filter(|agent| agent.stream().is_some()) else { return };
        agent.outgoing.discard.push(digest);
    }

    fn tell_safe(&mut self, id: AgentId, digest: Digest) {
        let Some(agent) = self.fleet.get_mut(id).filter(|agent| agent.stream().is_some()) else { return };
        agent.outgoing.safe.push(digest);
    }

    fn is_connected(&self, id: AgentId) -> bool {
        self.fleet.get(id).is_some_and(|agent| matches!(agent.link, Link::Open(_)))
    }
}

/// What is not needed any more when the newest snapshot has got to one more place.
struct Unneeded {
    digest: Digest,
    may_go: Vec<AgentId>,
    before: Option<Kept>,
}

fn take_unneeded(entry: &mut Entry) -> Unneeded {
    let may_go = std::mem::take(&mut entry.newest.leaving).into_iter().collect();
    let before = if entry.newest.places() >= PLACES { entry.before.take() } else { None };
    Unneeded { digest: entry.newest.digest(), may_go, before }
}

/// Where among the agents the look for a keeper begins: elsewhere for each snapshot.
fn spread(digest: Digest) -> u64 {
    let mut first = [0; 8];
    first.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(first)
}
