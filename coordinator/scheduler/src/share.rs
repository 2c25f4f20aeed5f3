//! The submitters: what each has had, and which of their jobs have something to start.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_shared::{id::TokenId, time::Timestamp};

use super::{
    demand::DemandId,
    limits::Limits,
    rank::{Consumption, Rank, decayed, share},
};

/// A submitter's number in this process. People are few, so they are never forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SubmitterId(u32);

/// Running attempts count by whole ticks, so that submitters compare alike however long ago each was looked at. By the
/// microsecond whoever was touched last would look the greediest: an agent that is done with a task of one would
/// always be given one of another, and need the terms and the module of every job.
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
pub(super) struct Shares {
    /// By token; those whose tokens are not known any more count as one.
    by_owner: BTreeMap<Option<TokenId>, SubmitterId>,
    submitters: Vec<Submitter>,
    order: BTreeSet<(u64, SubmitterId)>,
    /// The tick as of which all stand in the order.
    settled: Timestamp,
    limits: Limits,
}

impl Shares {
    pub(super) fn new(limits: Limits, now: Timestamp) -> Self {
        Self { by_owner: BTreeMap::new(), submitters: Vec::new(), order: BTreeSet::new(), settled: tick(now), limits }
    }

    /// The submitter with this token, known from now on.
    pub(super) fn intern(&mut self, owner: Option<TokenId>) -> SubmitterId {
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
    pub(super) fn charge(&mut self, id: SubmitterId, used_us: u64) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.used_us = consumption.used_us.saturating_add(used_us);
        self.reorder(id);
    }

    /// An attempt went to an agent; `occupies`: at once into a free slot.
    pub(super) fn place(&mut self, id: SubmitterId, occupies: bool, now: Timestamp) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.placed += 1;
        if occupies {
            consumption.running += 1;
            consumption.began_us += i128::from(tick(now).0);
        }
        self.reorder(id);
    }

    /// An attempt that waited at its agent runs now.
    pub(super) fn occupy(&mut self, id: SubmitterId, now: Timestamp) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.running += 1;
        consumption.began_us += i128::from(tick(now).0);
        self.reorder(id);
    }

    /// Nobody knows whether an attempt that took a slot still does.
    pub(super) fn vacate(&mut self, id: SubmitterId, since: Timestamp) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.running -= 1;
        consumption.began_us -= i128::from(tick(since).0);
        self.reorder(id);
    }

    /// An attempt is with its agent no longer; it used this much.
    pub(super) fn take(&mut self, id: SubmitterId, occupied_since: Option<Timestamp>, used_us: u64) {
        let consumption = &mut self.submitter(id).consumption;
        consumption.placed -= 1;
        if let Some(since) = occupied_since {
            consumption.running -= 1;
            consumption.began_us -= i128::from(tick(since).0);
        }
        self.charge(id, used_us);
    }

    /// A job has something to start.
    pub(super) fn list(&mut self, id: SubmitterId, demand: DemandId, rank: Rank) {
        let submitter = self.submitter(id);
        submitter.listed.entry(demand).or_default().insert(rank);
        submitter.woken.insert(rank);
        self.reorder(id);
    }

    /// A job has nothing to start any more.
    pub(super) fn unlist(&mut self, id: SubmitterId, demand: DemandId, rank: Rank) {
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
    pub(super) fn first_woken(&self) -> Option<Rank> {
        self.order.iter().find_map(|(_, id)| self.submitters[id.0 as usize].woken.first().copied())
    }

    /// A listed job has something that idle agents were not looked through for.
    pub(super) fn wake(&mut self, id: SubmitterId, rank: Rank) {
        self.submitter(id).woken.insert(rank);
    }

    /// Idle agents were looked through for this job.
    pub(super) fn unwake(&mut self, id: SubmitterId, rank: Rank) {
        self.submitter(id).woken.remove(&rank);
    }

    /// The first job in rank order of those whose demand fits and that `accepts` takes.
    pub(super) fn first(&self, mut fits: impl FnMut(DemandId) -> bool, mut accepts: impl FnMut(Rank) -> bool) -> Option<Rank> {
        self.order.iter().find_map(|(_, id)| {
            let listed = self.submitters[id.0 as usize].listed.iter();
            let fitting = listed.filter(|(demand, _)| fits(**demand));
            fitting.filter_map(|(_, ranks)| ranks.iter().copied().find(|rank| accepts(*rank))).min()
        })
    }

    /// The first so many jobs in rank order of those whose demand fits and that `accepts` takes.
    pub(super) fn first_few(
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
    pub(super) fn before(&self, id: SubmitterId, rank: Rank) -> impl Iterator<Item = Rank> + '_ {
        let own_place = self.submitters[id.0 as usize].place.map(|place| (place, id));
        let earlier = self.order.iter().take_while(move |place| own_place.is_none_or(|own| **place < own));
        let theirs = earlier.flat_map(|(_, id)| self.submitters[id.0 as usize].listed.values().flatten().copied());
        let own = self.submitters[id.0 as usize].listed.values().flat_map(move |ranks| ranks.range(..rank).copied());
        theirs.chain(own)
    }

    /// Lets time pass: old usage counts less, running attempts count more.
    pub(super) fn settle(&mut self, now: Timestamp) {
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
    pub(super) fn audit<'a>(
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
