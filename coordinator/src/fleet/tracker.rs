//! Who holds which blob, as agents say, and whom to send somebody to who needs one. Soft state, in memory only.
//!
//! Agents tell in full what they hold on each new stream, and then what changed. Exact lists and not a filter in gossip:
//! agents do not read gossip, so the coordinator would have to answer for them anyway; a list on a stream that is
//! there in any case costs 40 bytes a blob once; and a filter would name holders that have nothing. What is said
//! here may be wrong all the same: a peer that has not got it costs the asker one question.
//!
//! ```text
//! asks  ---> fetching ---(reports that it holds it)---> holder ---(lost, gone)---> (none)
//!               +----- silent for FETCHING_TIME, gone ----------------------------> (none)
//! ```
//! For versions whose code somebody follows, changes of their holders come out as events for the scheduler.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use lru::LruCache;
use lull_mesh::{Holders, Transferred};
use lull_scheduler::event::{Event, StreamId};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, VersionId},
    limits::{HOLDINGS_MAX, SOURCES_MAX},
    message::BlobReport,
};

/// Somebody who fetches a blob asks for further sources more often than this.
const FETCHING_TIME: Duration = Duration::from_secs(30);
/// Versions whose holders are followed: those submitted last. Beyond it tasks go to whoever is free.
const VERSIONS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// What all agents together may say that they hold: some hundred blobs for each of ten thousand, some 300 MB at worst.
const HOLDINGS_OF_ALL_MAX: usize = 2_000_000;
/// Blobs that one agent fetches, as far as is remembered: more than it can fetch at once. The one that it asked for first is
/// forgotten for the next, and all of them when it goes.
const ASKED_MAX: usize = 64;
/// Blobs whose uploads are remembered: those sent last.
const UPLOADED_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Shared by the edges; calls are short.
#[derive(Default)]
pub struct Tracker(Mutex<State>);

struct State {
    agents: BTreeMap<AgentId, Agent>,
    peers: BTreeMap<PeerId, AgentId>,
    blobs: BTreeMap<Digest, Blob>,
    versions: LruCache<VersionId, Vec<Digest>>,
    /// Bytes that this coordinator sent, and the size of the blob.
    uploaded: LruCache<Digest, (u64, u64)>,
    holdings: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            agents: BTreeMap::new(),
            peers: BTreeMap::new(),
            blobs: BTreeMap::new(),
            versions: LruCache::new(VERSIONS_MAX),
            uploaded: LruCache::new(UPLOADED_MAX),
            holdings: 0,
        }
    }
}

struct Agent {
    stream: StreamId,
    peer: PeerId,
    holds: BTreeSet<Digest>,
    /// What it asked for lately, the first of it first.
    asked: VecDeque<Digest>,
    moved: Transferred,
}

#[derive(Default)]
struct Blob {
    size_bytes: u64,
    holders: BTreeSet<PeerId>,
    /// When each asked last.
    fetching: BTreeMap<PeerId, Instant>,
}

/// What a connected agent has and moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentHoldings {
    pub agent: AgentId,
    pub peer: PeerId,
    pub blobs: usize,
    pub moved: Transferred,
}

/// Who has a blob, and how much of it this coordinator sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobHoldings {
    pub blob: BlobRef,
    pub holders: usize,
    pub fetching: usize,
    pub uploaded_bytes: u64,
}

impl Tracker {
    /// An agent opened a stream: nothing is known of it until it reports.
    pub fn connected(&self, agent: AgentId, peer: PeerId, stream: StreamId) {
        let mut state = self.lock();
        if state.agents.get(&agent).is_some_and(|known| known.stream > stream) {
            return;
        }
        state.clear(agent);
        state.peers.insert(peer, agent);
        let (holds, asked, moved) = Default::default();
        state.agents.insert(agent, Agent { stream, peer, holds, asked, moved });
    }

    /// A stream closed. What changed for the scheduler; nothing if the agent has a newer one.
    pub fn gone(&self, agent: AgentId, stream: StreamId) -> Vec<Event> {
        let mut state = self.lock();
        if state.agents.get(&agent).is_none_or(|known| known.stream != stream) {
            return Vec::new();
        }
        let lost = state.clear(agent);
        state.changes(agent, &BTreeSet::new(), &lost)
    }

    /// Takes in what an agent says; the error is what it did wrong. A stream that is not its newest says nothing.
    pub fn report(&self, agent: AgentId, stream: StreamId, report: BlobReport) -> Result<Vec<Event>, String> {
        if report.gained.len() > HOLDINGS_MAX || report.lost.len() > HOLDINGS_MAX {
            return Err(format!("{} blobs gained and {} lost in one report", report.gained.len(), report.lost.len()));
        }
        let mut state = self.lock();
        let Some(known) = state.agents.get_mut(&agent).filter(|known| known.stream == stream) else { return Ok(Vec::new()) };
        known.moved = Transferred {
            from_agents_bytes: report.from_agents_bytes,
            from_coordinators_bytes: report.from_coordinators_bytes,
            served_bytes: report.served_bytes,
        };
        let lost = match report.all {
            true => known.holds.iter().copied().collect(),
            false => report.lost,
        };
        let lost: BTreeSet<Digest> = lost.into_iter().filter(|digest| state.lose(agent, digest)).collect();
        let gained: BTreeSet<Digest> =
            report.gained.iter().filter(|blob| state.gain(agent, blob)).map(|blob| blob.digest).collect();
        if state.agents.get(&agent).is_some_and(|known| known.holds.len() > HOLDINGS_MAX) {
            return Err(format!("more than {HOLDINGS_MAX} blobs held"));
        }
        Ok(state.changes(agent, &gained, &lost))
    }

    /// Somebody is about to fetch a blob: who else has some of it. `random` spreads askers over them.
    pub fn ask(&self, asker: PeerId, blob: &BlobRef, random: u64, now: Instant) -> Holders {
        let mut state = self.lock();
        let is_agent = state.note_asked(asker, blob);
        // Of whoever has no stream nothing is remembered.
        let Some(entry) = state.blobs.get_mut(&blob.digest) else { return Holders::default() };
        entry.fetching.retain(|_, asked| now.duration_since(*asked) < FETCHING_TIME);
        let others = |peer: &&PeerId| **peer != asker;
        let whole = some_of(entry.holders.iter().filter(others), SOURCES_MAX / 2, random);
        let rest = SOURCES_MAX - whole.len();
        let fetching = some_of(entry.fetching.keys().filter(others), rest, random);
        if is_agent {
            entry.fetching.insert(asker, now);
        }
        Holders { whole, fetching }
    }

    /// A blob that some agent says it holds.
    pub fn held(&self, digest: &Digest) -> Option<BlobRef> {
        let state = self.lock();
        let blob = state.blobs.get(digest).filter(|blob| !blob.holders.is_empty())?;
        Some(BlobRef { digest: *digest, size_bytes: blob.size_bytes })
    }

    /// Some of a blob was sent by this coordinator.
    pub fn sent(&self, blob: &BlobRef, bytes: u64) {
        let mut state = self.lock();
        let (sent, _) = state.uploaded.get(&blob.digest).copied().unwrap_or_default();
        state.uploaded.put(blob.digest, (sent.saturating_add(bytes), blob.size_bytes));
    }

    /// Follows who holds the code of a version from now on; who holds it now.
    pub fn follow(&self, version: VersionId, code: Vec<Digest>) -> Event {
        let mut state = self.lock();
        let peers = code.iter().filter_map(|digest| state.blobs.get(digest)).flat_map(|blob| &blob.holders);
        let holders: BTreeSet<AgentId> = peers.filter_map(|peer| state.peers.get(peer)).copied().collect();
        state.versions.put(version, code);
        Event::Holders { version, gained: holders.into_iter().collect(), lost: Vec::new() }
    }

    /// Every connected agent.
    pub fn agents(&self) -> Vec<AgentHoldings> {
        let holdings = |(agent, known): (&AgentId, &Agent)| AgentHoldings {
            agent: *agent,
            peer: known.peer,
            blobs: known.holds.len(),
            moved: known.moved,
        };
        self.lock().agents.iter().map(holdings).collect()
    }

    /// The blobs of which the most copies are or were on their way, at most so many.
    pub fn blobs(&self, max: usize, now: Instant) -> Vec<BlobHoldings> {
        let state = self.lock();
        let holdings = |(digest, blob): (&Digest, &Blob)| BlobHoldings {
            blob: BlobRef { digest: *digest, size_bytes: blob.size_bytes },
            holders: blob.holders.len(),
            fetching: blob.fetching.values().filter(|asked| now.duration_since(**asked) < FETCHING_TIME).count(),
            uploaded_bytes: state.uploaded.peek(digest).map_or(0, |(bytes, _)| *bytes),
        };
        let only_sent = state.uploaded.iter().filter(|(digest, _)| !state.blobs.contains_key(*digest));
        let only_sent = only_sent.map(|(digest, (bytes, size_bytes))| BlobHoldings {
            blob: BlobRef { digest: *digest, size_bytes: *size_bytes },
            holders: 0,
            fetching: 0,
            uploaded_bytes: *bytes,
        });
        let mut blobs: Vec<BlobHoldings> = state.blobs.iter().map(holdings).chain(only_sent).collect();
        blobs.sort_by_key(|blob| std::cmp::Reverse((blob.holders + blob.fetching, blob.uploaded_bytes)));
        blobs.truncate(max);
        blobs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes that an agent holds a blob; whether that is new.
    fn gain(&mut self, agent: AgentId, blob: &BlobRef) -> bool {
        if self.holdings >= HOLDINGS_OF_ALL_MAX {
            return false;
        }
        let Some(known) = self.agents.get_mut(&agent) else { return false };
        let (peer, new) = (known.peer, known.holds.insert(blob.digest));
        if new {
            self.holdings += 1;
            let entry = self.blobs.entry(blob.digest).or_default();
            entry.size_bytes = entry.size_bytes.max(blob.size_bytes);
            entry.holders.insert(peer);
            entry.fetching.remove(&peer);
        }
        new
    }

    /// Notes that an agent does not hold a blob; whether it did.
    fn lose(&mut self, agent: AgentId, digest: &Digest) -> bool {
        let Some(known) = self.agents.get_mut(&agent) else { return false };
        let (peer, held) = (known.peer, known.holds.remove(digest));
        if held {
            self.holdings -= 1;
            self.drop_holder(digest, &peer);
        }
        held
    }

    /// Forgets an agent; what it held.
    fn clear(&mut self, agent: AgentId) -> BTreeSet<Digest> {
        let Some(known) = self.agents.remove(&agent) else { return BTreeSet::new() };
        self.holdings -= known.holds.len();
        self.peers.remove(&known.peer);
        for digest in &known.holds {
            self.drop_holder(digest, &known.peer);
        }
        for digest in &known.asked {
            self.drop_fetching(digest, &known.peer);
        }
        known.holds
    }

    /// Notes that a peer asked for a blob; `false`: it is no agent that has a stream.
    fn note_asked(&mut self, asker: PeerId, blob: &BlobRef) -> bool {
        let Some(known) = self.peers.get(&asker).and_then(|agent| self.agents.get_mut(agent)) else { return false };
        if known.asked.contains(&blob.digest) {
            return true;
        }
        known.asked.push_back(blob.digest);
        let forgotten = (known.asked.len() > ASKED_MAX).then(|| known.asked.pop_front()).flatten();
        if let Some(digest) = forgotten {
            self.drop_fetching(&digest, &asker);
        }
        self.blobs.entry(blob.digest).or_default().size_bytes = blob.size_bytes;
        true
    }

    fn drop_fetching(&mut self, digest: &Digest, peer: &PeerId) {
        let Some(blob) = self.blobs.get_mut(digest) else { return };
        blob.fetching.remove(peer);
        if blob.holders.is_empty() && blob.fetching.is_empty() {
            self.blobs.remove(digest);
        }
    }

    fn drop_holder(&mut self, digest: &Digest, peer: &PeerId) {
        let Some(blob) = self.blobs.get_mut(digest) else { return };
        blob.holders.remove(peer);
        if blob.holders.is_empty() && blob.fetching.is_empty() {
            self.blobs.remove(digest);
        }
    }

    /// For each version that is followed, whether the agent came to hold its code or holds it no more.
    fn changes(&self, agent: AgentId, gained: &BTreeSet<Digest>, lost: &BTreeSet<Digest>) -> Vec<Event> {
        if gained.is_empty() && lost.is_empty() {
            return Vec::new();
        }
        let holds = |digest: &Digest| self.agents.get(&agent).is_some_and(|known| known.holds.contains(digest));
        let change = |(version, code): (&VersionId, &Vec<Digest>)| {
            let (gained, lost) = match code.iter().any(holds) {
                true if code.iter().any(|digest| gained.contains(digest)) => (vec![agent], vec![]),
                false if code.iter().any(|digest| lost.contains(digest)) => (vec![], vec![agent]),
                true | false => return None,
            };
            Some(Event::Holders { version: *version, gained, lost })
        };
        self.versions.iter().filter_map(change).collect()
    }
}

/// So many of them in a row, from a random one on.
fn some_of<'a>(peers: impl Iterator<Item = &'a PeerId> + Clone, max: usize, random: u64) -> Vec<PeerId> {
    let count = peers.clone().count();
    let from = usize::try_from(random).unwrap_or_default().checked_rem(count).unwrap_or_default();
    peers.clone().skip(from).chain(peers.take(from)).take(max).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(name: &str) -> BlobRef {
        BlobRef { digest: Digest::of(name.as_bytes()), size_bytes: 100 }
    }

    fn gained(names: &[&str]) -> BlobReport {
        BlobReport { gained: names.iter().map(|name| blob(name)).collect(), ..BlobReport::default() }
    }

    /// A tracker with agents from 1 on, all connected.
    fn tracker(agents: u64) -> (Tracker, Vec<PeerId>) {
        let (tracker, peers) = (Tracker::default(), (0..agents).map(|_| PeerId::random()).collect::<Vec<_>>());
        for (number, peer) in (1..).zip(&peers) {
            tracker.connected(AgentId(number), *peer, StreamId(number));
        }
        (tracker, peers)
    }

    fn say(tracker: &Tracker, agent: u64, report: BlobReport) -> Vec<Event> {
        tracker.report(AgentId(agent), StreamId(agent), report).expect("nothing wrong")
    }

    #[test]
    fn holders_are_named_until_they_lose_the_blob_or_go() {
        let (tracker, peers) = tracker(3);
        let now = Instant::now();
        for agent in 1..=2 {
            say(&tracker, agent, gained(&["one"]));
        }
        let mut named = tracker.ask(peers[2], &blob("one"), 1, now).whole;
        named.sort_unstable();
        let mut both = peers[..2].to_vec();
        both.sort_unstable();
        assert_eq!(named, both);
        say(&tracker, 1, BlobReport { lost: vec![blob("one").digest], ..BlobReport::default() });
        assert_eq!(tracker.ask(peers[2], &blob("one"), 1, now).whole, [peers[1]]);
        tracker.gone(AgentId(2), StreamId(2));
        assert_eq!(tracker.ask(peers[0], &blob("one"), 1, now), Holders { whole: vec![], fetching: vec![peers[2]] });
    }

    #[test]
    fn those_who_fetch_are_named_to_each_other_until_they_hold_it_or_fall_silent() {
        let (tracker, peers) = tracker(3);
        let now = Instant::now();
        assert_eq!(tracker.ask(peers[0], &blob("one"), 0, now), Holders::default());
        assert_eq!(tracker.ask(peers[1], &blob("one"), 0, now).fetching, [peers[0]]);
        say(&tracker, 1, gained(&["one"]));
        assert_eq!(tracker.ask(peers[2], &blob("one"), 0, now), Holders { whole: vec![peers[0]], fetching: vec![peers[1]] });
        let later = tracker.ask(peers[0], &blob("one"), 0, now + FETCHING_TIME);
        assert_eq!(later, Holders::default(), "the asker itself holds it, the others were silent");
        let stranger = PeerId::random();
        tracker.ask(stranger, &blob("two"), 0, now);
        assert_eq!(tracker.ask(peers[0], &blob("two"), 0, now), Holders::default(), "who has no stream is not named");
    }

    #[test]
    fn a_full_report_replaces_what_was_said_and_an_old_stream_says_nothing() {
        let (tracker, peers) = tracker(2);
        say(&tracker, 1, gained(&["one", "two"]));
        say(&tracker, 1, BlobReport { all: true, ..gained(&["two", "three"]) });
        assert_eq!(tracker.agents()[0].blobs, 2);
        assert_eq!(tracker.ask(peers[1], &blob("one"), 0, Instant::now()).whole, []);
        tracker.connected(AgentId(1), peers[0], StreamId(9));
        assert_eq!(tracker.agents()[0].blobs, 0, "a new stream begins with nothing");
        say(&tracker, 1, gained(&["one"]));
        assert!(tracker.gone(AgentId(1), StreamId(1)).is_empty());
        assert_eq!((tracker.agents()[0].blobs, tracker.agents().len()), (0, 2));
    }

    #[test]
    fn many_askers_are_spread_over_many_holders() {
        let (tracker, peers) = tracker(40);
        for agent in 1..=40 {
            say(&tracker, agent, gained(&["one"]));
        }
        let mut named = BTreeSet::new();
        for random in 0..40 {
            let holders = tracker.ask(peers[0], &blob("one"), random, Instant::now());
            assert!(holders.whole.len() <= SOURCES_MAX && !holders.whole.contains(&peers[0]));
            named.extend(holders.whole);
        }
        assert_eq!(named.len(), 39);
    }

    #[test]
    fn the_scheduler_hears_who_holds_the_code_of_versions_that_are_followed() {
        let (tracker, _) = tracker(2);
        say(&tracker, 1, gained(&["module"]));
        let code = vec![blob("module").digest, blob("artifact").digest];
        let holders = |event: &Event| match event {
            Event::Holders { version: VersionId(7), gained, lost } => (gained.clone(), lost.clone()),
            other => panic!("not {other:?}"),
        };
        assert_eq!(holders(&tracker.follow(VersionId(7), code)), (vec![AgentId(1)], vec![]));
        assert_eq!(holders(&say(&tracker, 2, gained(&["artifact"]))[0]), (vec![AgentId(2)], vec![]));
        assert!(say(&tracker, 2, gained(&["something else"])).is_empty());
        let lost = |name: &str| BlobReport { lost: vec![blob(name).digest], ..BlobReport::default() };
        assert_eq!(holders(&say(&tracker, 2, lost("artifact"))[0]), (vec![], vec![AgentId(2)]));
        assert_eq!(holders(&tracker.gone(AgentId(1), StreamId(1))[0]), (vec![], vec![AgentId(1)]));
    }

    #[test]
    fn an_agent_that_claims_too_much_breaks_the_protocol() {
        let (tracker, _) = tracker(1);
        let claims = |from: usize, count: usize| BlobReport {
            gained: (from..from + count).map(|number| blob(&number.to_string())).collect(),
            ..BlobReport::default()
        };
        assert!(tracker.report(AgentId(1), StreamId(1), claims(0, HOLDINGS_MAX + 1)).is_err());
        assert!(tracker.report(AgentId(1), StreamId(1), claims(0, HOLDINGS_MAX)).is_ok());
        assert!(tracker.report(AgentId(1), StreamId(1), claims(HOLDINGS_MAX, 1)).is_err());
        tracker.gone(AgentId(1), StreamId(1));
        assert_eq!((tracker.blobs(usize::MAX, Instant::now()), tracker.lock().holdings), (vec![], 0));
    }

    #[test]
    fn what_all_agents_say_they_hold_is_bounded_and_whoever_goes_makes_room() {
        let (tracker, _) = tracker(2);
        // As if others held the rest.
        tracker.lock().holdings = HOLDINGS_OF_ALL_MAX - 3;
        say(&tracker, 1, gained(&["one", "two"]));
        say(&tracker, 2, gained(&["three", "four", "five"]));
        let held = || tracker.agents().iter().map(|agent| agent.blobs).collect::<Vec<_>>();
        assert_eq!((held(), tracker.lock().holdings), (vec![2, 1], HOLDINGS_OF_ALL_MAX));
        tracker.gone(AgentId(1), StreamId(1));
        say(&tracker, 2, gained(&["four", "five", "six"]));
        assert_eq!((held(), tracker.lock().holdings), (vec![3], HOLDINGS_OF_ALL_MAX));
    }

    #[test]
    fn of_many_versions_the_holders_of_the_last_are_followed() {
        let (tracker, _) = tracker(1);
        let count = VERSIONS_MAX.get() as u64 + 10;
        for version in 0..count {
            tracker.follow(VersionId(version), vec![blob("module").digest]);
        }
        let changes = say(&tracker, 1, gained(&["module"]));
        let versions = changes.iter().map(|event| match event {
            Event::Holders { version, .. } => version.0,
            other => panic!("not {other:?}"),
        });
        assert_eq!(versions.collect::<BTreeSet<_>>(), (10..count).collect());
    }

    #[test]
    fn what_an_agent_asks_for_is_remembered_up_to_a_bound_and_forgotten_with_it() {
        let (tracker, peers) = tracker(2);
        let now = Instant::now();
        for number in 0..25_000 {
            tracker.ask(peers[0], &blob(&number.to_string()), 0, now);
            tracker.ask(PeerId::random(), &blob(&format!("stranger {number}")), 0, now);
        }
        assert_eq!(tracker.blobs(usize::MAX, now).len(), ASKED_MAX);
        assert_eq!(tracker.ask(peers[1], &blob("24999"), 0, now).fetching, [peers[0]], "the last ones are known");
        tracker.gone(AgentId(1), StreamId(1));
        tracker.gone(AgentId(2), StreamId(2));
        assert_eq!(tracker.blobs(usize::MAX, now), []);
    }

    #[test]
    fn uploads_are_counted_and_what_is_remembered_of_them_is_bounded() {
        let (tracker, peers) = tracker(1);
        for number in 0..UPLOADED_MAX.get() + 10 {
            tracker.sent(&blob(&number.to_string()), 1);
        }
        tracker.sent(&blob("one"), 150);
        assert!(tracker.blobs(usize::MAX, Instant::now()).len() <= UPLOADED_MAX.get());
        say(&tracker, 1, gained(&["one"]));
        let moved = BlobReport { from_agents_bytes: 5, ..BlobReport::default() };
        say(&tracker, 1, moved);
        let top = tracker.blobs(1, Instant::now())[0];
        assert_eq!((top.blob, top.holders, top.uploaded_bytes), (blob("one"), 1, 150));
        assert_eq!((tracker.agents()[0].peer, tracker.agents()[0].moved.from_agents_bytes), (peers[0], 5));
    }
}
