//! An honest agent on an unreliable line: words and orders are on their way for as long as the test likes, in order,
//! and die with the stream.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskId},
    message::{
        Build, Finished, Hello, KeptSnapshot, Outcome, Payload, Reach, RecallReason, ReleaseReason, SnapshotRef, ToCoordinator,
        UnkeptReason,
    },
};

use crate::{
    effect::{Given, Order},
    event::{Event, StreamId},
    tests::support::driver::{capacity, failure, machine, success},
};

/// One machine.
#[derive(Debug)]
pub(crate) struct FakeAgent {
    pub id: AgentId,
    pub slots: u16,
    /// Its newest stream, while it believes that it is open.
    pub stream: Option<StreamId>,
    last_stream: u64,
    /// Orders on their way.
    incoming: VecDeque<(u64, Order)>,
    read: u64,
    /// Words on their way.
    outgoing: VecDeque<ToCoordinator>,
    /// Everything ever said, to be said again by a confused network.
    said: Vec<ToCoordinator>,
    briefs: BTreeSet<JobId>,
    waiting: VecDeque<AttemptId>,
    running: VecDeque<AttemptId>,
    /// Those of its attempts that can be moved.
    movable: BTreeSet<AttemptId>,
    /// Results on disk.
    done: BTreeMap<AttemptId, Finished>,
    /// Snapshots on disk.
    snapshots: BTreeMap<Digest, TaskId>,
}

impl FakeAgent {
    pub(crate) fn new(id: u64, slots: u16) -> Self {
        Self {
            id: AgentId(id),
            slots,
            stream: None,
            last_stream: 0,
            incoming: VecDeque::new(),
            read: 0,
            outgoing: VecDeque::new(),
            said: Vec::new(),
            briefs: BTreeSet::new(),
            waiting: VecDeque::new(),
            running: VecDeque::new(),
            movable: BTreeSet::new(),
            done: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        }
    }

    /// Opens a stream; results that were not acknowledged follow.
    pub(crate) fn connect(&mut self) -> Event {
        self.cut();
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        self.stream = Some(stream);
        if !self.done.is_empty() {
            self.say(ToCoordinator::Finished(self.done.values().cloned().collect()));
        }
        let hello = Hello {
            agent_version: "1".into(),
            machine: machine(),
            labels: Default::default(),
            capacity: capacity(self.id.0, self.slots),
            holding: self.waiting.iter().chain(&self.running).copied().collect(),
            snapshots: self.snapshots.iter().map(|(digest, task)| KeptSnapshot { task: *task, digest: *digest }).collect(),
            instance: Default::default(),
            open_cage: None,
        };
        Event::Connected { agent: self.id, stream, hello: Box::new(hello), from: String::new() }
    }

    /// The stream broke: what was on its way is lost. Its number.
    pub(crate) fn cut(&mut self) -> Option<StreamId> {
        self.incoming.clear();
        self.outgoing.clear();
        self.briefs.clear();
        self.read = 0;
        self.stream.take()
    }

    /// The machine lost power: only what is on disk survives.
    pub(crate) fn lose_power(&mut self) -> Option<StreamId> {
        self.waiting.clear();
        self.running.clear();
        self.cut()
    }

    /// An order set out for it.
    pub(crate) fn send(&mut self, stream: StreamId, number: u64, order: Order) {
        if self.stream == Some(stream) {
            self.incoming.push_back((number, order));
        }
    }

    /// Reads the next order. Whether there was one.
    pub(crate) fn read(&mut self) -> bool {
        let Some((number, order)) = self.incoming.pop_front() else { return false };
        assert_eq!(number, self.read + 1, "{} reads every order", self.id);
        assert!(number > 1 || matches!(order, Order::Welcome { .. } | Order::Goodbye { .. }), "a stream begins with {order:?}");
        self.read = number;
        match order {
            Order::Welcome { .. } | Order::Intake(_) => {}
            Order::Brief { job } => assert!(self.briefs.insert(job), "{} is told the brief of {job} twice", self.id),
            Order::Keep { task, snapshot } => self.keep(task, snapshot.digest),
            Order::Safe { .. } | Order::Wake { .. } => {}
            Order::Discard { snapshots } => self.snapshots.retain(|digest, _| !snapshots.contains(digest)),
            Order::Assign { attempts } => attempts.into_iter().for_each(|given| self.take(given)),
            Order::Recall { attempts, reason } => self.give_back(&attempts, reason),
            Order::Acknowledge { attempts } => self.done.retain(|attempt, _| !attempts.contains(attempt)),
            Order::Forget { job } => assert!(self.briefs.remove(&job), "{} forgets {job}, which it does not know", self.id),
            Order::Goodbye { .. } => drop(self.cut()),
        }
        true
    }

    /// Every other copy does not get here.
    fn keep(&mut self, task: TaskId, digest: Digest) {
        let snapshot = KeptSnapshot { task, digest };
        if self.read.is_multiple_of(2) {
            self.snapshots.insert(digest, task);
            self.say(ToCoordinator::Keeps(snapshot));
        } else {
            self.say(ToCoordinator::Unkept { snapshot, reason: UnkeptReason::Unavailable });
        }
    }

    fn take(&mut self, given: Given) {
        let attempt = given.attempt;
        assert!(self.briefs.contains(&attempt.task.job), "{} is given {attempt} without its brief", self.id);
        assert!(!self.holding().contains(&attempt), "{} is given {attempt} twice", self.id);
        self.waiting.push_back(attempt);
        if given.build == Build::Migratable {
            self.movable.insert(attempt);
        }
    }

    fn give_back(&mut self, attempts: &[AttemptId], reason: RecallReason) {
        let goes = |attempt: &AttemptId| attempts.contains(attempt);
        let mut released: Vec<_> = self.waiting.iter().copied().filter(goes).collect();
        self.waiting.retain(|attempt| !goes(attempt));
        let reach = reason.reach();
        let leaves = |attempt: &AttemptId| match reach {
            Reach::Waiting => false,
            Reach::Movable => goes(attempt) && self.movable.contains(attempt),
            Reach::All => goes(attempt),
        };
        let (left, stays): (VecDeque<_>, _) = self.running.iter().copied().partition(leaves);
        self.running = stays;
        if reach == Reach::Movable {
            left.iter().for_each(|attempt| self.save_state(*attempt));
        }
        released.extend(left);
        if !released.is_empty() {
            self.say(ToCoordinator::Released { attempts: released, reason: ReleaseReason::Recalled });
        }
    }

    /// Starts what waits while there are slots.
    pub(crate) fn start(&mut self) {
        let mut started = Vec::new();
        while self.running.len() < usize::from(self.slots) {
            let Some(attempt) = self.waiting.pop_front() else { break };
            self.running.push_back(attempt);
            started.push(attempt);
        }
        if !started.is_empty() {
            self.say(ToCoordinator::Started { attempts: started });
        }
    }

    /// Ends the attempt that runs the longest.
    pub(crate) fn finish(&mut self, well: bool) {
        let Some(attempt) = self.running.pop_front() else { return };
        // Those that can be moved are long enough to tell fast machines from slow ones.
        let wall_ms = if self.movable.contains(&attempt) { 1_000 * (1 + self.id.0) } else { 7 };
        let result = if well { success(attempt, Duration::from_millis(wall_ms)) } else { failure(attempt) };
        self.done.insert(attempt, result.clone());
        self.say(ToCoordinator::Finished(vec![result]));
    }

    /// Ends the attempt that runs the longest, with an output of its own.
    pub(crate) fn lie(&mut self) {
        let Some(attempt) = self.running.pop_front() else { return };
        let mut result = success(attempt, std::time::Duration::from_millis(7));
        result.outcome = Outcome::Succeeded { output: Payload::inline(format!("{} lies", self.id)) };
        self.done.insert(attempt, result.clone());
        self.say(ToCoordinator::Finished(vec![result]));
    }

    /// Keeps a snapshot of the attempt that runs the longest.
    pub(crate) fn save(&mut self) {
        if let Some(attempt) = self.first_running() {
            self.save_state(attempt);
        }
    }

    fn save_state(&mut self, attempt: AttemptId) {
        let blob = BlobRef::of(format!("{attempt} after {} words", self.said.len()).as_bytes());
        self.snapshots.insert(blob.digest, attempt.task);
        self.say(ToCoordinator::Saved { attempt, snapshot: SnapshotRef { blob, spent_us: 1 } });
    }

    /// Snapshots that it keeps.
    pub(crate) fn keeps(&self) -> usize {
        self.snapshots.len()
    }

    /// The attempt that is to start next, refused.
    pub(crate) fn next_waiting(&mut self) -> Option<AttemptId> {
        self.waiting.pop_front()
    }

    /// The attempt that runs the longest, given up.
    pub(crate) fn next_running(&mut self) -> Option<AttemptId> {
        self.running.pop_front()
    }

    /// Something that runs.
    pub(crate) fn first_running(&self) -> Option<AttemptId> {
        self.running.front().copied()
    }

    /// Everything that it has.
    pub(crate) fn holding(&self) -> Vec<AttemptId> {
        self.waiting.iter().chain(&self.running).chain(self.done.keys()).copied().collect()
    }

    pub(crate) fn heartbeat(&mut self) {
        let heartbeat = ToCoordinator::Heartbeat { frame_read: self.read, holding: self.holding() };
        self.say(heartbeat);
    }

    /// Puts a word on its way.
    pub(crate) fn say(&mut self, word: ToCoordinator) {
        if self.stream.is_some() {
            self.said.push(word.clone());
            self.outgoing.push_back(word);
        }
    }

    /// The next word arrives.
    pub(crate) fn arrive(&mut self) -> Option<Event> {
        let message = self.outgoing.pop_front()?;
        Some(Event::Message { agent: self.id, stream: self.stream?, message })
    }

    /// Something that was said arrives again, on this stream or an older one. Heartbeats do not: they would be lies.
    pub(crate) fn repeat(&self, which: usize, on_old_stream: bool) -> Option<Event> {
        let repeatable = |word: &&ToCoordinator| !matches!(word, ToCoordinator::Heartbeat { .. } | ToCoordinator::Farewell);
        let said: Vec<_> = self.said.iter().filter(repeatable).collect();
        let message = (*said.get(which % said.len().max(1))?).clone();
        let stream = StreamId(self.stream?.0 - u64::from(on_old_stream));
        Some(Event::Message { agent: self.id, stream, message })
    }
}
