//! The submitters: what each has had, and which of their jobs have something to start.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_shared::{id::TokenId, time::Timestamp};

use crate::{
    jobs::demand::DemandId,
    limits::Limits,
    placement::rank::{Consumption, Rank, decayed, share},
};

/// A submitter's number in this process. People are few, so they are never forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SubmitterId(u32);

/// Running attempts count by whole ticks, so that submitters compare alike however long ago each was looked at. By the
/// microsecond whoever was touched last would look the greediest: an agent that is done with a task of one would
/// always be given one of another, and need the brief and the module of every job.
const TICK: Duration = Duration::from_secs(1);

/// The beginning of the tick that a time falls in.
fn tick(time: Timestamp) -> Timestamp {
    let tick_us = TICK.as_micros() as i64;
    Timestamp(time.0.div_euclid(tick_us) * tick_us)
}

#[derive(Debug, Clone)]
struct Submitter {
    consumption: Consumption,
    /// Jobs with something to start, by what they demand of an agent.
    listed: BTreeMap<DemandId, BTreeSet<Rank>>,
    /// Those of them that idle agents have not been looked through for yet.
    woken: BTreeSet<Rank>,
    /// The place in the order, while there are listed jobs.
    place: Option<u64>,
}

/// All submitters, those with listed jobs in the order of their share.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    /// By token; those whose tokens are not known any more count as one.
    by_owner: BTreeMap<Option<TokenId>, SubmitterId>,
    submitters: Vec<Submitter>,
    order: BTreeSet<(u64, SubmitterId)>,
    /// The tick as of which all stand in the order.
    settled: Timestamp,
    limits: Limits,
}

impl Shares {
    pub(crate) fn new(limits: Limits, now: Timestamp) -> Self {
        Self { by_owner: BTreeMap::new(), submitters: Vec::new(), order: BTreeSet::new(), settled: tick(now), limits }
    }

    /// The submitter with this token, known from now on.
    pub(crate) fn intern(&mut self, owner: Option<TokenId>) -> SubmitterId {
        if let Some(id) = self.by_owner.get(&owner) {
            return *id;
        }
        let id = SubmitterId(u32::try_from(self.submitters.len()).expect("fewer submitters than tokens"));
        self.by_owner.insert(owner, id);
        self.submitters.push(Submitter {
            consumption: Consumption::default(),
            listed: BTreeMap::new(),
            woken: BTreeSet::new(),
            place: None,
        });
        id
    }

    /// Adds slot-time that was used.
    pub(crate) fn charge(&mut self, id: SubmitterId, used_us: u64) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.used_us = consumption.used_us.saturating_add(used_us);
        self.reorder(id);
    }

    /// An attempt went to an agent; `occupies`: at once into a free slot.
    pub(crate) fn place(&mut self, id: SubmitterId, occupies: bool, now: Timestamp) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.placed += 1;
        if occupies {
            consumption.running += 1;
            consumption.began_us += i128::from(tick(now).0);
        }
        self.reorder(id);
    }

    /// An attempt that waited at its agent runs now.
    pub(crate) fn occupy(&mut self, id: SubmitterId, now: Timestamp) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.running += 1;
        consumption.began_us += i128::from(tick(now).0);
        self.reorder(id);
    }

    /// Nobody knows whether an attempt that took a slot still does.
    pub(crate) fn vacate(&mut self, id: SubmitterId, since: Timestamp) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.running -= 1;
        consumption.began_us -= i128::from(tick(since).0);
        self.reorder(id);
    }

    /// An attempt is with its agent no longer; it used this much.
    pub(crate) fn take(&mut self, id: SubmitterId, occupied_since: Option<Timestamp>, used_us: u64) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.placed -= 1;
        if let Some(since) = occupied_since {
            consumption.running -= 1;
            consumption.began_us -= i128::from(tick(since).0);
        }
        self.charge(id, used_us);
    }

    /// A job has something to start.
    pub(crate) fn list(&mut self, id: SubmitterId, demand: DemandId, rank: Rank) {
        let submitter = self.submitter(id);
        submitter.listed.entry(demand).or_default().insert(rank);
        submitter.woken.insert(rank);
        self.reorder(id);
    }

    /// A job has nothing to start any more.
    pub(crate) fn unlist(&mut self, id: SubmitterId, demand: DemandId, rank: Rank) {
        let submitter = self.submitter(id);
        submitter.woken.remove(&rank);
        if let Some(ranks) = submitter.listed.get_mut(&demand) {
            ranks.remove(&rank);
            if ranks.is_empty() {
                submitter.listed.remove(&demand);
            }
        }
        self.reorder(id);
    }

    /// The first job for which idle agents have not been looked through.
    pub(crate) fn first_woken(&self) -> Option<Rank> {
        self.order.iter().find_map(|(_, id)| self.submitters[id.0 as usize].woken.first().copied())
    }

    /// A listed job has something that idle agents were not looked through for.
    pub(crate) fn wake(&mut self, id: SubmitterId, rank: Rank) {
        self.submitter(id).woken.insert(rank);
    }

    /// Idle agents were looked through for this job.
    pub(crate) fn unwake(&mut self, id: SubmitterId, rank: Rank) {
        self.submitter(id).woken.remove(&rank);
    }

    /// The first job in rank order of those whose demand fits and that `accepts` takes.
    pub(crate) fn first(&self, mut fits: impl FnMut(DemandId) -> bool, mut accepts: impl FnMut(Rank) -> bool) -> Option<Rank> {
        self.order.iter().find_map(|(_, id)| {
            let listed = self.submitters[id.0 as usize].listed.iter();
            let fitting = listed.filter(|(demand, _)| fits(**demand));
            fitting.filter_map(|(_, ranks)| ranks.iter().copied().find(|rank| accepts(*rank))).min()
        })
    }

    /// The first so many jobs in rank order of those whose demand fits and that `accepts` takes.
    pub(crate) fn first_few(
        &self,
        count: usize,
        mut fits: impl FnMut(DemandId) -> bool,
        mut accepts: impl FnMut(Rank) -> bool,
    ) -> Vec<Rank> {
        let mut few = Vec::with_capacity(count);
        for (_, id) in &self.order {
            let left = count - few.len();
            if left == 0 {
                break;
            }
            let mut theirs = Vec::new();
            for (_, ranks) in self.submitters[id.0 as usize].listed.iter().filter(|(demand, _)| fits(**demand)) {
                theirs.extend(ranks.iter().copied().filter(|rank| accepts(*rank)).take(left));
            }
            theirs.sort_unstable();
            few.extend(theirs.into_iter().take(left));
        }
        few
    }

    /// Listed jobs that come before this one in rank order.
    pub(crate) fn before(&self, id: SubmitterId, rank: Rank) -> impl Iterator<Item = Rank> + '_ {
        let own_place = self.submitters[id.0 as usize].place.map(|place| (place, id));
        let earlier = self.order.iter().take_while(move |place| own_place.is_none_or(|own| **place < own));
        let theirs = earlier.flat_map(|(_, id)| self.submitters[id.0 as usize].listed.values().flatten().copied());
        let own = self.submitters[id.0 as usize].listed.values().flat_map(move |ranks| ranks.range(..rank).copied());
        theirs.chain(own)
    }

    /// Lets time pass: old usage counts less, running attempts count more.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        let elapsed = tick(now).since(self.settled);
        if elapsed.is_zero() {
            return;
        }
        self.settled = tick(now);
        for index in 0..self.submitters.len() {
            let consumption = &mut self.submitters[index].consumption;
            consumption.used_us = decayed(consumption.used_us, elapsed, &self.limits);
            self.reorder(SubmitterId(index as u32));
        }
    }

    /// What does not add up, if anything. `jobs` yields each active job's submitter, attempts with agents, and listing.
    pub(crate) fn audit<'a>(
        &'a self,
        jobs: impl Iterator<Item = (SubmitterId, u32, Option<(DemandId, Rank)>)> + 'a,
    ) -> Result<(), String> {
        let mut placed = vec![0_u32; self.submitters.len()];
        let mut listed = 0;
        for (id, attempts, listing) in jobs {
            placed[id.0 as usize] += attempts;
            let Some((demand, rank)) = listing else { continue };
            listed += 1;
            if !self.submitters[id.0 as usize].listed.get(&demand).is_some_and(|ranks| ranks.contains(&rank)) {
                return Err(format!("{} has something to start and is not listed", rank.job));
            }
        }
        let all: usize = self.submitters.iter().flat_map(|submitter| submitter.listed.values()).map(BTreeSet::len).sum();
        if all != listed {
            return Err(format!("{all} jobs are listed and {listed} have something to start"));
        }
        for (index, submitter) in self.submitters.iter().enumerate() {
            if submitter.consumption.placed != placed[index] {
                let counted = submitter.consumption.placed;
                return Err(format!("submitter {index} is counted {counted} attempts and has {}", placed[index]));
            }
            if submitter.consumption.running > submitter.consumption.placed {
                return Err(format!("submitter {index} runs more attempts than it has"));
            }
            if submitter.consumption.running == 0 && submitter.consumption.began_us != 0 {
                return Err(format!("submitter {index} runs nothing and has begun something"));
            }
            if submitter.place.is_some() == submitter.listed.is_empty() {
                return Err(format!("submitter {index} is in the order without listed jobs, or the other way round"));
            }
        }
        Ok(())
    }

    fn submitter(&mut self, id: SubmitterId) -> &mut Submitter {
        &mut self.submitters[id.0 as usize]
    }

    fn reorder(&mut self, id: SubmitterId) {
        let submitter = &mut self.submitters[id.0 as usize];
        let place = (!submitter.listed.is_empty()).then(|| share(&submitter.consumption, self.settled, &self.limits));
        if submitter.place == place {
            return;
        }
        if let Some(old) = std::mem::replace(&mut submitter.place, place) {
            self.order.remove(&(old, id));
        }
        if let Some(new) = place {
            self.order.insert((new, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        id::{JobId, VersionId},
        job::{Inputs, JobSpec, Priority},
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        jobs::demand::Demands,
        placement::rank::{micros, rank},
    };

    const SUBMITTERS: usize = 3;
    const DEMANDS: usize = 2;

    #[derive(Debug, Clone)]
    enum Step {
        /// A job is listed, or is not any more.
        List(usize),
        Unlist(usize),
        Wake(usize),
        Unwake(usize),
        Place(usize, bool),
        /// An attempt that waited begins, or one that runs is not heard of, or ends after so much.
        Occupy(usize),
        Vacate(usize),
        Take(usize, u64),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let which = 0..12_usize;
        prop_oneof![
            4 => which.clone().prop_map(Step::List),
            2 => which.clone().prop_map(Step::Unlist),
            1 => which.clone().prop_map(Step::Wake),
            2 => which.clone().prop_map(Step::Unwake),
            3 => (0..SUBMITTERS, any::<bool>()).prop_map(|(whose, occupies)| Step::Place(whose, occupies)),
            1 => (0..SUBMITTERS).prop_map(Step::Occupy),
            1 => (0..SUBMITTERS).prop_map(Step::Vacate),
            2 => (0..SUBMITTERS, 0..200_000_000_u64).prop_map(|(whose, used)| Step::Take(whose, used)),
            2 => (0..90_000_000_u64).prop_map(Step::Pass),
        ]
    }

    /// One job that may be listed.
    #[derive(Debug, Clone, Copy)]
    struct Known {
        whose: usize,
        demand: DemandId,
        rank: Rank,
    }

    /// What one submitter has had: every attempt with a word about it.
    #[derive(Debug, Clone, Default)]
    struct Had {
        used_us: u64,
        /// Since when each attempt takes a slot, if it does.
        attempts: Vec<Option<i64>>,
    }

    #[derive(Debug)]
    struct World {
        shares: Shares,
        ids: Vec<SubmitterId>,
        had: Vec<Had>,
        known: Vec<Known>,
        listed: BTreeSet<usize>,
        woken: BTreeSet<usize>,
        now: Timestamp,
        /// The second as of which all were compared last.
        settled_s: i64,
        limits: Limits,
    }

    impl World {
        fn new() -> Self {
            let (limits, now) = (Limits::default(), Timestamp(5_500_000));
            let mut shares = Shares::new(limits.clone(), now);
            let ids = (0..SUBMITTERS as u64).map(|token| shares.intern(Some(TokenId(token)))).collect();
            let mut demands = Demands::default();
            let mut spec = JobSpec::plain("f", VersionId(1), Inputs::Range { first: 0, count: 1 });
            let demands: Vec<_> = (0..DEMANDS as u64)
                .map(|bytes| {
                    spec.limits.memory_bytes = bytes;
                    demands.add(&spec)
                })
                .collect();
            // Those that were submitted later are now and then more urgent.
            let known = |job: u64| Known {
                whose: job as usize % SUBMITTERS,
                demand: demands[job as usize / SUBMITTERS % DEMANDS],
                rank: rank(JobId(job), Priority((job % 5) as i8), now, &limits),
            };
            let known = (0..12).map(known).collect();
            Self {
                shares,
                ids,
                had: vec![Had::default(); SUBMITTERS],
                known,
                listed: BTreeSet::new(),
                woken: BTreeSet::new(),
                now,
                settled_s: 5,
                limits,
            }
        }

        fn step(&mut self, step: Step) {
            let now = self.now;
            match step {
                Step::List(which) => {
                    let Known { whose, demand, rank } = self.known[which];
                    if self.listed.insert(which) {
                        self.shares.list(self.ids[whose], demand, rank);
                        self.woken.insert(which);
                    }
                }
                Step::Unlist(which) => {
                    let Known { whose, demand, rank } = self.known[which];
                    if self.listed.remove(&which) {
                        self.shares.unlist(self.ids[whose], demand, rank);
                        self.woken.remove(&which);
                    }
                }
                Step::Wake(which) if self.listed.contains(&which) => {
                    self.shares.wake(self.ids[self.known[which].whose], self.known[which].rank);
                    self.woken.insert(which);
                }
                Step::Unwake(which) => {
                    self.shares.unwake(self.ids[self.known[which].whose], self.known[which].rank);
                    self.woken.remove(&which);
                }
                Step::Place(whose, occupies) => {
                    self.shares.place(self.ids[whose], occupies, now);
                    self.had[whose].attempts.push(occupies.then_some(now.0));
                }
                Step::Occupy(whose) => {
                    if let Some(attempt) = self.had[whose].attempts.iter_mut().find(|attempt| attempt.is_none()) {
                        self.shares.occupy(self.ids[whose], now);
                        *attempt = Some(now.0);
                    }
                }
                Step::Vacate(whose) => {
                    if let Some(attempt) = self.had[whose].attempts.iter_mut().find(|attempt| attempt.is_some())
                        && let Some(since) = attempt.take()
                    {
                        self.shares.vacate(self.ids[whose], Timestamp(since));
                    }
                }
                Step::Take(whose, used_us) => {
                    if let Some(since) = self.had[whose].attempts.pop() {
                        self.shares.take(self.ids[whose], since.map(Timestamp), used_us);
                        self.had[whose].used_us += used_us;
                    }
                }
                Step::Pass(time_us) => {
                    self.now = Timestamp(now.0 + time_us as i64);
                    self.shares.settle(self.now);
                    let seconds = self.now.0 / 1_000_000 - self.settled_s;
                    if seconds > 0 {
                        self.settled_s += seconds;
                        let elapsed = Duration::from_secs(seconds as u64);
                        self.had.iter_mut().for_each(|had| had.used_us = decayed(had.used_us, elapsed, &self.limits));
                    }
                }
                Step::Wake(_) => {}
            }
        }

        /// What a submitter has had by now, in microseconds; attempts begin and are looked at by whole seconds.
        fn share_us(&self, whose: usize) -> u64 {
            let had = &self.had[whose];
            let running = had.attempts.iter().flatten().map(|since| self.settled_s - since / 1_000_000);
            let running_us = running.sum::<i64>().max(0) as u64 * 1_000_000;
            had.used_us + running_us + had.attempts.len() as u64 * micros(self.limits.attempt_weight)
        }

        /// All of these jobs, in the order in which they go.
        fn in_order(&self, these: &BTreeSet<usize>) -> Vec<Rank> {
            let key = |which: usize| {
                let Known { whose, rank, .. } = self.known[which];
                (self.share_us(whose), whose, rank)
            };
            let mut all: Vec<_> = these.iter().map(|which| key(*which)).collect();
            all.sort_unstable();
            all.into_iter().map(|(_, _, rank)| rank).collect()
        }

        fn compare(&self) {
            let all = self.in_order(&self.listed);
            assert_eq!(self.shares.first(|_| true, |_| true), all.first().copied());
            assert_eq!(self.shares.first_woken(), self.in_order(&self.woken).first().copied());
            for (place, rank) in all.iter().enumerate() {
                let which = self.known.iter().position(|known| known.rank == *rank).expect("it is known");
                let Known { whose, demand, .. } = self.known[which];
                let mut before: Vec<Rank> = self.shares.before(self.ids[whose], *rank).collect();
                before.sort_unstable();
                let mut expected = all[..place].to_vec();
                expected.sort_unstable();
                assert_eq!(before, expected, "before {rank:?}");
                let alike: Vec<Rank> = all
                    .iter()
                    .filter(|rank| self.known.iter().any(|known| known.demand == demand && known.rank == **rank))
                    .copied()
                    .collect();
                assert_eq!(self.shares.first(|other| other == demand, |_| true), alike.first().copied());
                assert_eq!(self.shares.first_few(2, |other| other == demand, |_| true), alike[..alike.len().min(2)]);
                assert_eq!(self.shares.first(|_| true, |other| other == *rank), Some(*rank));
            }
            for count in [1, 3, 20] {
                assert_eq!(self.shares.first_few(count, |_| true, |_| true), all[..all.len().min(count)]);
            }
            let odd: Vec<Rank> = all.iter().filter(|rank| rank.job.0 % 2 == 1).copied().collect();
            assert_eq!(self.shares.first_few(2, |_| true, |rank| rank.job.0 % 2 == 1), odd[..odd.len().min(2)]);
            let jobs = (0..self.known.len()).map(|which| {
                let Known { whose, demand, rank } = self.known[which];
                // All attempts of a submitter are told with the first of his jobs.
                let attempts = if which < SUBMITTERS { self.had[whose].attempts.len() as u32 } else { 0 };
                (self.ids[whose], attempts, self.listed.contains(&which).then_some((demand, rank)))
            });
            assert_eq!(self.shares.audit(jobs), Ok(()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn jobs_go_in_the_order_of_what_their_submitters_have_had(steps in vec(step(), 1..60)) {
            let mut world = World::new();
            for step in steps {
                world.step(step);
                world.compare();
            }
        }
    }

    #[test]
    fn one_token_is_one_submitter_and_so_are_all_that_are_not_known_any_more() {
        let mut shares = Shares::new(Limits::default(), Timestamp(0));
        let [ada, bob, nobody] = [Some(TokenId(1)), Some(TokenId(2)), None].map(|owner| shares.intern(owner));
        assert!(ada != bob && bob != nobody && ada != nobody);
        assert_eq!([Some(TokenId(1)), Some(TokenId(2)), None].map(|owner| shares.intern(owner)), [ada, bob, nobody]);
    }
}
