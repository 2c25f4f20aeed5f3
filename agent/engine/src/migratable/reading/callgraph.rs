//! Who can be on the stack when a poll fires.
//!
//! A poll is at the head of a loop, or at the entry of a function that closes a circle of calls (the target of a back
//! edge of a depth-first search from the entry: every circle has one), or of one that may execute much without looping:
//! forty functions that each call the next twice run for minutes. A function can be suspended if it polls, or calls one
//! that can be suspended.

use std::collections::{BTreeMap, BTreeSet};

use crate::migratable::reading::{
    source::Source,
    survey::{Survey, key},
};

/// Instructions that a call may execute without a poll: about a millisecond.
const LONG: u64 = 1_000_000;

/// What the calls between functions say of each that the module defines, in order.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::migratable) struct CallGraph {
    /// Whether it can be on the stack when a poll fires.
    pub suspendable: Vec<bool>,
    /// Whether it polls at its entry.
    pub polls_at_entry: Vec<bool>,
}

/// Edges between nodes: the functions that the module defines, then one node for each type that is called through a
/// table, so that many callers and many callees do not make many more edges.
struct Graph {
    functions: usize,
    /// Where each leads, and at how many places.
    edges: Vec<Vec<(u32, u32)>>,
}

impl CallGraph {
    pub(crate) fn new(source: &Source<'_>, survey: &Survey) -> Self {
        let graph = Graph::new(source, survey);
        let roots = [source.start, Some(source.entry)].into_iter().flatten().filter_map(|root| root.checked_sub(source.imported));
        let (reached, mut polls_at_entry) = graph.search(roots);
        graph.poll_in_the_long(survey, &reached, &mut polls_at_entry);
        let mut suspendable: Vec<bool> = (0..graph.edges.len())
            .map(|at| {
                reached[at] && survey.functions.get(at).is_some_and(|facts| polls_at_entry[at] || facts.polled.contains(&true))
            })
            .collect();
        graph.spread_to_callers(&reached, &mut suspendable);
        suspendable.truncate(graph.functions);
        Self { suspendable, polls_at_entry }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Never,
    Open,
    Done,
}

impl Graph {
    fn new(source: &Source<'_>, survey: &Survey) -> Self {
        let functions = survey.functions.len();
        let defined = |(callee, places): (&u32, u32)| Some((callee.checked_sub(source.imported)?, places));
        let once = |callees: &BTreeSet<u32>| callees.iter().filter_map(|callee| defined((callee, 1))).collect();
        let node_of: BTreeMap<_, u32> = survey.by_type.keys().zip(functions as u32..).collect();
        let mut edges: Vec<Vec<(u32, u32)>> = survey
            .functions
            .iter()
            .map(|facts| {
                let functions = facts.calls.iter().filter_map(|(callee, places)| defined((callee, *places)));
                let node = |ty: &u32| node_of.get(&key(&source.types[*ty as usize])).copied();
                let types = facts.calls_types.iter().filter_map(|(ty, places)| Some((node(ty)?, *places)));
                functions.chain(types).collect()
            })
            .collect();
        edges.extend(survey.by_type.values().map(once));
        Self { functions, edges }
    }

    /// Which nodes are reached from the roots, and which functions close a circle.
    fn search(&self, roots: impl Iterator<Item = u32>) -> (Vec<bool>, Vec<bool>) {
        let mut visits = vec![Visit::Never; self.edges.len()];
        let mut closing = vec![false; self.functions];
        let mut path: Vec<(usize, usize)> = Vec::new();
        for root in roots {
            if visits[root as usize] != Visit::Never {
                continue;
            }
            visits[root as usize] = Visit::Open;
            path.push((root as usize, 0));
            while let Some((from, next)) = path.last_mut() {
                let from = *from;
                let Some(to) = self.edges[from].get(*next).map(|(to, _)| *to as usize) else {
                    visits[from] = Visit::Done;
                    path.pop();
                    continue;
                };
                *next += 1;
                match visits[to] {
                    Visit::Never => {
                        visits[to] = Visit::Open;
                        path.push((to, 0));
                    }
                    // One end of the edge is a function, and both are on the circle.
                    Visit::Open => closing[if to < self.functions { to } else { from }] = true,
                    Visit::Done => {}
                }
            }
        }
        (visits.into_iter().map(|visit| visit == Visit::Done).collect(), closing)
    }

    /// Has functions poll at their entry whose calls would execute much without a poll.
    fn poll_in_the_long(&self, survey: &Survey, reached: &[bool], polls_at_entry: &mut [bool]) {
        let mut work = vec![0_u64; self.edges.len()];
        let mut visits = vec![Visit::Never; self.edges.len()];
        for root in (0..self.edges.len()).filter(|at| reached[*at]) {
            if visits[root] != Visit::Never {
                continue;
            }
            visits[root] = Visit::Open;
            let mut path = vec![(root, 0)];
            while let Some((from, next)) = path.last_mut() {
                let from = *from;
                if let Some((to, _)) = self.edges[from].get(*next) {
                    *next += 1;
                    // No circle is left when nothing leads into functions that close one.
                    let closes = polls_at_entry.get(*to as usize).copied().unwrap_or(false);
                    if visits[*to as usize] == Visit::Never && !closes {
                        visits[*to as usize] = Visit::Open;
                        path.push((*to as usize, 0));
                    }
                    continue;
                }
                path.pop();
                visits[from] = Visit::Done;
                let callees = self.edges[from].iter().map(|(to, places)| match polls_at_entry.get(*to as usize) {
                    Some(true) => 0,
                    _ => work[*to as usize].saturating_mul((*places).into()),
                });
                // Of those behind a type one is called.
                work[from] = match survey.functions.get(from) {
                    Some(facts) => callees.fold(facts.work, u64::saturating_add),
                    None => callees.max().unwrap_or(0),
                };
                if from < self.functions && work[from] > LONG {
                    polls_at_entry[from] = true;
                }
            }
        }
    }

    fn spread_to_callers(&self, reached: &[bool], suspendable: &mut [bool]) {
        let mut callers = vec![Vec::new(); self.edges.len()];
        for (from, to) in self.edges.iter().enumerate().filter(|(from, _)| reached[*from]) {
            for (to, _) in to {
                callers[*to as usize].push(from);
            }
        }
        let mut work: Vec<usize> = (0..self.edges.len()).filter(|at| suspendable[*at]).collect();
        while let Some(at) = work.pop() {
            for caller in &callers[at] {
                if !suspendable[*caller] {
                    suspendable[*caller] = true;
                    work.push(*caller);
                }
            }
        }
    }
}
