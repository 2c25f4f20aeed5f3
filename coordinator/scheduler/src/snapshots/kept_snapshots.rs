//! Who keeps which snapshot: the data of [`crate::snapshots::keeping`], with its indexes.
//!
//! Soft: after a restart nobody is known to keep anything until agents have said so in their hellos. Recording it would
//! cost a row for each copy of each snapshot, and would be wrong as often: an agent's disk is the only one that knows.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    digest::Digest,
    id::{AgentId, TaskId},
    message::SnapshotRef,
    time::Timestamp,
};

/// Whoever may keep a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keeper {
    Agent(AgentId),
    /// This coordinator.
    Here,
}

/// Somebody who was asked to keep a copy and has not answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub keeper: Keeper,
    pub since: Timestamp,
}

/// One snapshot and those who have it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub snapshot: SnapshotRef,
    pub holders: BTreeSet<AgentId>,
    /// Those who have it and are about to go, and wait to be told that they may.
    pub leaving: BTreeSet<AgentId>,
    /// Whether this coordinator has it.
    pub here: bool,
}

/// The snapshots from which a task can go on.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub newest: Kept,
    /// The one before, while the newest is in one place only.
    pub before: Option<Kept>,
    /// Who shall keep the newest.
    pub asked: Option<Asked>,
    /// Who could not, lately.
    pub declined: BTreeSet<Keeper>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptSnapshots {
    tasks: BTreeMap<TaskId, Entry>,
    /// The tasks that could go on from a snapshot. Whoever knows a digest can say that a task of his has it too: that adds
    /// to what is known and takes nothing from it.
    digests: BTreeMap<Digest, BTreeSet<TaskId>>,
    /// Tasks of whose snapshots an agent has one or was asked to keep one.
    agents: BTreeMap<AgentId, BTreeSet<TaskId>>,
    /// What this coordinator keeps or was asked to keep, in bytes.
    here_bytes: u64,
    /// Tasks whose copies are counted at the end of the turn. Empty between turns.
    pub due: BTreeSet<TaskId>,
    later: BTreeSet<(Timestamp, TaskId)>,
}

/// Under which keys an entry stands in the indexes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Indexed {
    digests: BTreeSet<Digest>,
    agents: BTreeSet<AgentId>,
    here_bytes: u64,
}

impl Kept {
    /// A snapshot that these agents have.
    pub(crate) fn of(snapshot: SnapshotRef, holders: impl IntoIterator<Item = AgentId>) -> Self {
        Self { snapshot, holders: holders.into_iter().collect(), leaving: BTreeSet::new(), here: false }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.snapshot.blob.digest
    }

    /// Every agent that has it, about to go or not.
    pub(crate) fn agents(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.holders.iter().chain(&self.leaving).copied()
    }

    /// Whether this one has it.
    fn is_with(&self, keeper: Keeper) -> bool {
        match keeper {
            Keeper::Agent(agent) => self.agents().any(|holder| holder == agent),
            Keeper::Here => self.here,
        }
    }

    /// In how many places it stays.
    pub(crate) fn places(&self) -> usize {
        self.holders.len() + usize::from(self.here)
    }

    /// An agent does not have it any more.
    pub(crate) fn without(&mut self, agent: AgentId) {
        self.holders.remove(&agent);
        self.leaving.remove(&agent);
    }
}

impl Entry {
    pub(crate) fn new(newest: Kept) -> Self {
        Self { newest, before: None, asked: None, declined: BTreeSet::new() }
    }

    /// The copies of one of its snapshots.
    pub(crate) fn copies_mut(&mut self, digest: Digest) -> Option<&mut Kept> {
        [Some(&mut self.newest), self.before.as_mut()].into_iter().flatten().find(|copies| copies.digest() == digest)
    }

    /// Whether this one was asked and has not answered.
    pub(crate) fn has_asked(&self, keeper: Keeper) -> bool {
        self.asked.is_some_and(|asked| asked.keeper == keeper)
    }

    /// Takes an answer in: nobody is asked any more, if it was this one.
    pub(crate) fn answered(&mut self, keeper: Keeper) {
        if self.has_asked(keeper) {
            self.asked = None;
        }
    }

    fn indexed(&self) -> Indexed {
        let mut indexed = Indexed::default();
        for copies in [Some(&self.newest), self.before.as_ref()].into_iter().flatten() {
            indexed.digests.insert(copies.digest());
            indexed.agents.extend(copies.agents());
            indexed.here_bytes += if copies.here { copies.snapshot.blob.size_bytes } else { 0 };
        }
        match self.asked.map(|asked| asked.keeper) {
            Some(Keeper::Agent(agent)) => drop(indexed.agents.insert(agent)),
            Some(Keeper::Here) if !self.newest.here => indexed.here_bytes += self.newest.snapshot.blob.size_bytes,
            Some(Keeper::Here) | None => {}
        }
        indexed
    }
}

impl KeptSnapshots {
    pub(crate) fn get(&self, task: TaskId) -> Option<&Entry> {
        self.tasks.get(&task)
    }

    /// The tasks that could go on from this snapshot.
    pub(crate) fn tasks_from(&self, digest: Digest) -> Vec<TaskId> {
        self.digests.get(&digest).into_iter().flatten().copied().collect()
    }

    /// Whether some task counts on this keeper's copy of a snapshot.
    pub(crate) fn counts_on(&self, keeper: Keeper, digest: Digest) -> bool {
        let entries = self.digests.get(&digest).into_iter().flatten().filter_map(|task| self.tasks.get(task));
        entries.into_iter().any(|entry| {
            let asked = entry.has_asked(keeper) && entry.newest.digest() == digest;
            let copies = [Some(&entry.newest), entry.before.as_ref()].into_iter().flatten();
            asked || copies.filter(|copies| copies.digest() == digest).any(|copies| copies.is_with(keeper))
        })
    }

    /// The tasks of whose snapshots an agent has one or was asked to keep one.
    pub(crate) fn tasks_of(&self, agent: AgentId) -> BTreeSet<TaskId> {
        self.agents.get(&agent).cloned().unwrap_or_default()
    }

    /// Of how many tasks an agent has snapshots or was asked to keep one.
    pub(crate) fn load(&self, agent: AgentId) -> usize {
        self.agents.get(&agent).map_or(0, BTreeSet::len)
    }

    /// How many snapshots an agent keeps, its own and others'.
    pub(crate) fn kept_by(&self, agent: AgentId) -> usize {
        let entries = self.agents.get(&agent).into_iter().flatten().filter_map(|task| self.tasks.get(task));
        let copies = entries.flat_map(|entry| [Some(&entry.newest), entry.before.as_ref()]);
        copies.flatten().filter(|copies| copies.agents().any(|holder| holder == agent)).count()
    }

    /// What this coordinator keeps or was asked to keep, in bytes.
    pub(crate) fn here_bytes(&self) -> u64 {
        self.here_bytes
    }

    /// A task has its first snapshot.
    pub(crate) fn insert(&mut self, task: TaskId, entry: Entry) {
        self.index(task, Indexed::default(), entry.indexed());
        self.tasks.insert(task, entry);
    }

    /// A task needs no snapshot any more.
    pub(crate) fn remove(&mut self, task: TaskId) -> Option<Entry> {
        let entry = self.tasks.remove(&task)?;
        self.index(task, entry.indexed(), Indexed::default());
        Some(entry)
    }

    /// Changes a task's entry, if it has one.
    pub(crate) fn change<T>(&mut self, task: TaskId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.tasks.get_mut(&task)?;
        let before = entry.indexed();
        let result = change(entry);
        let after = entry.indexed();
        if before != after {
            self.index(task, before, after);
        }
        Some(result)
    }

    /// A task's copies are to be counted then.
    pub(crate) fn look_later(&mut self, task: TaskId, at: Timestamp) {
        self.later.insert((at, task));
    }

    /// When the next task is to be looked at.
    pub(crate) fn next_look(&self) -> Option<Timestamp> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Tasks whose time has come are counted at the end of this turn.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some((at, task)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, task));
            self.due.insert(task);
        }
    }

    fn index(&mut self, task: TaskId, before: Indexed, after: Indexed) {
        for digest in before.digests.difference(&after.digests) {
            if let Some(tasks) = self.digests.get_mut(digest) {
                tasks.remove(&task);
                if tasks.is_empty() {
                    self.digests.remove(digest);
                }
            }
        }
        for digest in after.digests.difference(&before.digests) {
            self.digests.entry(*digest).or_default().insert(task);
        }
        for agent in before.agents.difference(&after.agents) {
            if let Some(tasks) = self.agents.get_mut(agent) {
                tasks.remove(&task);
                if tasks.is_empty() {
                    self.agents.remove(agent);
                }
            }
        }
        for agent in after.agents.difference(&before.agents) {
            self.agents.entry(*agent).or_default().insert(task);
        }
        self.here_bytes = self.here_bytes + after.here_bytes - before.here_bytes;
    }

    /// What does not add up, if anything. `saved`: how many tasks have a snapshot; `newest`: which one a task has.
    pub(crate) fn audit(&self, saved: usize, newest: impl Fn(TaskId) -> Option<Digest>) -> Result<(), String> {
        if !self.due.is_empty() {
            return Err("copies are still to be counted".into());
        }
        if self.tasks.len() != saved {
            return Err(format!("{saved} tasks have snapshots and the copies of {} are known", self.tasks.len()));
        }
        let (mut agents, mut here_bytes) = (BTreeMap::<AgentId, BTreeSet<TaskId>>::new(), 0);
        let mut digests = BTreeMap::<Digest, BTreeSet<TaskId>>::new();
        for (task, entry) in &self.tasks {
            if newest(*task) != Some(entry.newest.digest()) {
                return Err(format!("{task} goes on from another snapshot than the newest that is known"));
            }
            let indexed = entry.indexed();
            here_bytes += indexed.here_bytes;
            for digest in indexed.digests {
                digests.entry(digest).or_default().insert(*task);
            }
            for agent in indexed.agents {
                agents.entry(agent).or_default().insert(*task);
            }
        }
        if digests != self.digests {
            return Err("the tasks of snapshots are not indexed as they stand".into());
        }
        match (agents == self.agents, here_bytes == self.here_bytes) {
            (true, true) => Ok(()),
            (false, _) => Err("the keepers of snapshots are not indexed as they stand".into()),
            (_, false) => Err(format!("{here_bytes} bytes of snapshots are kept here and {} are counted", self.here_bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{digest::BlobRef, id::JobId};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const TASKS: u32 = 3;
    const AGENTS: u64 = 3;
    const SNAPSHOTS: u8 = 3;

    fn task(index: u32) -> TaskId {
        TaskId { job: JobId(1), index }
    }

    /// Snapshots of different sizes: 1, 10, 100 bytes.
    fn snapshot(number: u8) -> SnapshotRef {
        let blob = BlobRef { size_bytes: 10_u64.pow(number.into()), ..BlobRef::of(&[number]) };
        SnapshotRef { blob, spent_us: 0 }
    }

    fn keeper() -> impl Strategy<Value = Keeper> {
        prop_oneof![(1..=AGENTS).prop_map(|agent| Keeper::Agent(AgentId(agent))), Just(Keeper::Here)]
    }

    fn kept() -> impl Strategy<Value = Kept> {
        let agents = || prop::collection::btree_set((1..=AGENTS).prop_map(AgentId), 0..3);
        let parts = (0..SNAPSHOTS, agents(), agents(), any::<bool>());
        parts.prop_map(|(number, holders, leaving, here)| Kept { snapshot: snapshot(number), holders, leaving, here })
    }

    fn entry() -> impl Strategy<Value = Option<Entry>> {
        let asked = prop::option::of(keeper().prop_map(|keeper| Asked { keeper, since: Timestamp(0) }));
        let entry = (kept(), prop::option::of(kept()), asked);
        prop::option::of(entry.prop_map(|(newest, before, asked)| Entry { newest, before, asked, declined: BTreeSet::new() }))
    }

    /// Of these snapshots of a task each with whether it is the newest.
    fn parts(entry: &Entry) -> Vec<(&Kept, bool)> {
        [(Some(&entry.newest), true), (entry.before.as_ref(), false)]
            .into_iter()
            .filter_map(|(kept, newest)| Some((kept?, newest)))
            .collect()
    }

    fn has(kept: &Kept, agent: AgentId) -> bool {
        kept.holders.contains(&agent) || kept.leaving.contains(&agent)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// However entries come, change and go, whoever is asked for or by digest, agent or size finds what a walk through all
        /// of them would find.
        #[test]
        fn every_index_of_snapshots_says_what_a_walk_through_all_of_them_says(
            steps in vec((0..TASKS, entry()), 1..20),
        ) {
            let (mut kept_snapshots, mut all) = (KeptSnapshots::default(), BTreeMap::<TaskId, Entry>::new());
            for (index, entry) in steps {
                let task = task(index);
                match entry {
                    None => {
                        prop_assert_eq!(kept_snapshots.remove(task).is_some(), all.remove(&task).is_some());
                        prop_assert!(kept_snapshots.get(task).is_none());
                    }
                    Some(entry) => {
                        if all.insert(task, entry.clone()).is_some() {
                            prop_assert_eq!(kept_snapshots.change(task, |known| { *known = entry; 7 }), Some(7));
                        } else {
                            prop_assert_eq!(kept_snapshots.change(task, |_| 7), None);
                            kept_snapshots.insert(task, entry);
                        }
                    }
                }
                let newest = |task| all.get(&task).map(|entry: &Entry| entry.newest.digest());
                prop_assert_eq!(kept_snapshots.audit(all.len(), newest), Ok(()));
                let here = |entry: &Entry| -> u64 {
                    let kept: u64 =
                        parts(entry).iter().filter(|(kept, _)| kept.here).map(|(kept, _)| kept.snapshot.blob.size_bytes).sum();
                    let asked = entry.asked.is_some_and(|asked| asked.keeper == Keeper::Here) && !entry.newest.here;
                    kept + if asked { entry.newest.snapshot.blob.size_bytes } else { 0 }
                };
                prop_assert_eq!(kept_snapshots.here_bytes(), all.values().map(here).sum::<u64>());
                for agent in (1..=AGENTS).map(AgentId) {
                    let asked = |entry: &Entry| entry.asked.is_some_and(|asked| asked.keeper == Keeper::Agent(agent));
                    let keeps = |entry: &Entry| parts(entry).iter().any(|(kept, _)| has(kept, agent));
                    let theirs: BTreeSet<TaskId> =
                        all.iter().filter(|(_, entry)| asked(entry) || keeps(entry)).map(|(task, _)| *task).collect();
                    prop_assert_eq!(kept_snapshots.load(agent), theirs.len());
                    prop_assert_eq!(kept_snapshots.tasks_of(agent), theirs);
                    let copies = all.values().flat_map(parts).filter(|(kept, _)| has(kept, agent)).count();
                    prop_assert_eq!(kept_snapshots.kept_by(agent), copies);
                }
                for digest in (0..SNAPSHOTS).map(|number| snapshot(number).blob.digest) {
                    let is_from = |entry: &Entry| parts(entry).iter().any(|(kept, _)| kept.digest() == digest);
                    let from: Vec<TaskId> = all.iter().filter(|(_, entry)| is_from(entry)).map(|(task, _)| *task).collect();
                    prop_assert_eq!(kept_snapshots.tasks_from(digest), from);
                    for keeper in (1..=AGENTS).map(|agent| Keeper::Agent(AgentId(agent))).chain([Keeper::Here]) {
                        let counts = |entry: &Entry| {
                            let asked = entry.asked.is_some_and(|asked| asked.keeper == keeper);
                            parts(entry).iter().any(|(kept, newest)| {
                                let has = match keeper {
                                    Keeper::Agent(agent) => has(kept, agent),
                                    Keeper::Here => kept.here,
                                };
                                kept.digest() == digest && (has || (asked && *newest))
                            })
                        };
                        prop_assert_eq!(kept_snapshots.counts_on(keeper, digest), all.values().any(counts));
                    }
                }
            }
        }
    }

    #[test]
    fn a_task_is_looked_at_again_when_its_time_has_come_and_not_before() {
        let mut kept_snapshots = KeptSnapshots::default();
        [(3, 30), (1, 10), (2, 20)].into_iter().for_each(|(index, at)| kept_snapshots.look_later(task(index), Timestamp(at)));
        assert_eq!(kept_snapshots.next_look(), Some(Timestamp(10)));
        kept_snapshots.wake(Timestamp(9));
        assert!(kept_snapshots.due.is_empty());
        kept_snapshots.wake(Timestamp(20));
        assert_eq!(
            (kept_snapshots.due.iter().copied().collect::<Vec<_>>(), kept_snapshots.next_look()),
            (vec![task(1), task(2)], Some(Timestamp(30)))
        );
    }

    #[test]
    fn an_answer_is_taken_from_whoever_was_asked_and_from_nobody_else() {
        let [one, two] = [1, 2].map(|agent| Keeper::Agent(AgentId(agent)));
        let mut entry = Entry::new(Kept::of(snapshot(0), [AgentId(9)]));
        for (asked, answers, left) in
            [(one, two, true), (one, one, false), (Keeper::Here, one, true), (Keeper::Here, Keeper::Here, false)]
        {
            entry.asked = Some(Asked { keeper: asked, since: Timestamp(0) });
            assert!(entry.has_asked(asked));
            entry.answered(answers);
            assert_eq!(entry.asked.is_some(), left, "{asked:?} was asked and {answers:?} answers");
        }
        entry.before = Some(Kept::of(snapshot(1), [AgentId(1)]));
        assert_eq!(entry.copies_mut(snapshot(1).blob.digest).map(|kept| kept.places()), Some(1));
        assert!(entry.copies_mut(snapshot(2).blob.digest).is_none());
        let mut kept = Kept { here: true, ..Kept::of(snapshot(0), [1, 2].map(AgentId)) };
        kept.leaving.insert(AgentId(3));
        assert_eq!((kept.places(), kept.agents().count()), (3, 3), "whoever is about to go is no place");
        [1, 3].map(AgentId).into_iter().for_each(|agent| kept.without(agent));
        assert_eq!((kept.places(), kept.agents().collect::<Vec<_>>()), (2, vec![AgentId(2)]));
    }
}
