//! Who can be on the stack when a poll fires.
//!
//! A poll is at the head of a loop, or at the entry of a function that closes a circle of calls (the target of a back
//! edge of a depth-first search from the entry: every circle has one). A function can be suspended if it polls, or calls
//! one that can be suspended.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    source::Source,
    survey::{Survey, key},
};

/// What the calls between functions say of each that the module defines, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallGraph {
    /// Whether it can be on the stack when a poll fires.
    pub suspendable: Vec<bool>,
    /// Whether it polls at its entry.
    pub polls_at_entry: Vec<bool>,
}

/// Edges between nodes: the functions that the module defines, then one node for each type that is called through a
/// table, so that many callers and many callees do not make many more edges.
struct Graph {
    functions: usize,
    edges: Vec<Vec<u32>>,
}

impl CallGraph {
    pub fn new(source: &Source<'_>, survey: &Survey) -> Self {
        let graph = Graph::new(source, survey);
        let roots = [source.start, Some(source.entry)].into_iter().flatten().filter_map(|root| root.checked_sub(source.imported));
        let (reached, polls_at_entry) = graph.search(roots);
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
        let defined = |callees: &BTreeSet<u32>| -> Vec<u32> {
            callees.iter().filter_map(|callee| callee.checked_sub(source.imported)).collect()
        };
        let node_of: BTreeMap<_, u32> = survey.by_type.keys().zip(functions as u32..).collect();
        let mut edges: Vec<Vec<u32>> = survey
            .functions
            .iter()
            .map(|facts| {
                let types = facts.calls_types.iter().filter_map(|ty| node_of.get(&key(&source.types[*ty as usize])));
                defined(&facts.calls).into_iter().chain(types.copied()).collect()
            })
            .collect();
        edges.extend(survey.by_type.values().map(defined));
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
                let Some(to) = self.edges[from].get(*next).map(|to| *to as usize) else {
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

    fn spread_to_callers(&self, reached: &[bool], suspendable: &mut [bool]) {
        let mut callers = vec![Vec::new(); self.edges.len()];
        for (from, to) in self.edges.iter().enumerate().filter(|(from, _)| reached[*from]) {
            for to in to {
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
