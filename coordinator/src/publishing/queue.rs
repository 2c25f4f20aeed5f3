//! Whose publication comes next: one after the other, and in turns between those who publish.

use std::collections::{BTreeMap, VecDeque};

use super::PublicationId;

/// Publications of one caller that wait: a build server that publishes a whole repository of functions waits for some.
pub const WAITING_PER_CALLER_MAX: usize = 16;
/// Publications that wait in all. Each is a row in memory; its module is in the store.
pub const WAITING_MAX: usize = 256;

/// What waits.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<String, VecDeque<PublicationId>>,
    /// Whose turn was last.
    last: Option<String>,
}

/// Why nothing more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("{WAITING_PER_CALLER_MAX} of your publications wait already")]
    Caller,
    #[error("{WAITING_MAX} publications wait already")]
    All,
}

impl Queue {
    /// Behind everything else of this caller.
    pub fn push(&mut self, caller: &str, publication: PublicationId) -> Result<(), Full> {
        if self.waiting.values().map(VecDeque::len).sum::<usize>() >= WAITING_MAX {
            return Err(Full::All);
        }
        let own = self.waiting.entry(caller.to_owned()).or_default();
        if own.len() >= WAITING_PER_CALLER_MAX {
            return Err(Full::Caller);
        }
        own.push_back(publication);
        Ok(())
    }

    /// The oldest of the caller whose turn it is.
    pub fn take(&mut self) -> Option<PublicationId> {
        let caller = self.turns().next()?.clone();
        let own = self.waiting.get_mut(&caller)?;
        let publication = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&caller);
        }
        self.last = Some(caller);
        publication
    }

    /// How many come before this one as things stand; none if it does not wait.
    pub fn ahead(&self, publication: PublicationId) -> Option<u32> {
        let (caller, place) = self
            .waiting
            .iter()
            .find_map(|(caller, own)| own.iter().position(|other| *other == publication).map(|place| (caller, place)))?;
        // Everyone has a turn in each round; those before this caller have one more.
        let mut before = place;
        let mut passed = false;
        for other in self.turns() {
            passed |= other == caller;
            if other != caller {
                before += self.waiting[other].len().min(place + usize::from(!passed));
            }
        }
        u32::try_from(before).ok()
    }

    /// Takes one out.
    pub fn remove(&mut self, publication: PublicationId) {
        self.waiting.retain(|_, own| {
            own.retain(|other| *other != publication);
            !own.is_empty()
        });
    }

    /// Those who wait, the one whose turn it is first.
    fn turns(&self) -> impl Iterator<Item = &String> {
        let after = |caller: &&String| self.last.as_ref().is_some_and(|last| *caller > last);
        self.waiting.keys().filter(after).chain(self.waiting.keys().filter(move |caller| !after(caller)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> PublicationId {
        PublicationId(number)
    }

    #[test]
    fn callers_take_turns_whatever_one_of_them_brings() {
        let mut queue = Queue::default();
        for number in 0..5 {
            queue.push("bot", id(number)).expect("room");
        }
        queue.push("ann", id(10)).expect("room");
        queue.push("zoe", id(20)).expect("room");
        let told: Vec<_> = [0, 1, 10, 20].map(|number| queue.ahead(id(number))).to_vec();
        let order: Vec<u64> = std::iter::from_fn(|| queue.take()).map(|id| id.0).collect();
        assert_eq!(order, [10, 0, 20, 1, 2, 3, 4]);
        assert_eq!(told, [Some(1), Some(3), Some(0), Some(2)], "what was told is what came");
    }

    #[test]
    fn nobody_fills_the_queue_and_what_is_taken_out_is_gone() {
        let mut queue = Queue::default();
        let own = WAITING_PER_CALLER_MAX as u64;
        for number in 0..own {
            queue.push("bot", id(number)).expect("room");
        }
        assert_eq!(queue.push("bot", id(99)), Err(Full::Caller));
        queue.push("ann", id(100)).expect("room for others");
        queue.remove(id(0));
        assert_eq!((queue.ahead(id(0)), queue.push("bot", id(99))), (None, Ok(())));
        for caller in 0.. {
            if let Err(full) = queue.push(&format!("c{caller}"), id(1_000 + caller)) {
                assert_eq!((full, caller as usize), (Full::All, WAITING_MAX - WAITING_PER_CALLER_MAX - 1));
                break;
            }
        }
    }
}
