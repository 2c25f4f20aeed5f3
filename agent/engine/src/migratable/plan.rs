//! What is decided for the whole module before any function is written: who can be suspended, and who has which index.

use std::collections::BTreeMap;

use super::reading::{
    callgraph::CallGraph,
    source::Source,
    survey::{Survey, key},
    value::{VALUES, Value},
};

/// The decisions.
pub(super) struct Plan {
    pub survey: Survey,
    pub graph: CallGraph,
    pub ids: Ids,
    /// For each type whether a call of it through a table can be suspended.
    types: Vec<bool>,
}

/// Indices in the build. The poll is the last import, so functions that the module defines move up by one.
pub(super) struct Ids {
    /// The first function that the module defines, which is where the poll goes.
    pub poll: u32,
    /// The resume copy of each function that can be suspended, by the function's number without imports.
    pub resume: BTreeMap<u32, u32>,
    /// The first of them.
    pub first_resume: u32,
    /// Makes room for a frame.
    pub reserve: u32,
    /// Turns words around.
    pub reverse: u32,
    pub run: u32,
    pub restored: u32,
    /// The functions behind all these, which are made as they are needed.
    pub first_shared: u32,
    /// The memory with the flag and the frames.
    pub stack: u32,
    /// The table of resume copies.
    pub table: u32,
    pub state: u32,
    pub stack_pointer: u32,
    /// For each passive segment that is dropped somewhere the global that says so.
    pub dropped: BTreeMap<u32, u32>,
    /// Where the frames of the unwinding that goes on begin.
    pub mark: u32,
    /// For each type of values the globals that carry results from a resume copy to the next: the first, and how many.
    pub results: [(u32, u32); VALUES.len()],
}

impl Ids {
    /// A function's index in the build.
    pub(super) fn function(&self, index: u32) -> u32 {
        if index < self.poll { index } else { index + 1 }
    }

    /// The globals that carry results of these types, in their order.
    pub(super) fn carriers(&self, results: &[Value]) -> Vec<u32> {
        let mut next = self.results.map(|(first, _)| first);
        results
            .iter()
            .map(|result| {
                let next = &mut next[*result as usize];
                *next += 1;
                *next - 1
            })
            .collect()
    }
}

impl Plan {
    pub(super) fn new(source: &Source<'_>, survey: Survey) -> Self {
        let graph = CallGraph::new(source, &survey);
        let functions = source.bodies.len() as u32;
        let first_resume = source.imported + 1 + functions;
        let suspendable = (0..functions).filter(|at| graph.suspendable[*at as usize]);
        let resume: BTreeMap<u32, u32> = suspendable.zip(first_resume..).collect();
        let behind = first_resume + resume.len() as u32;
        let globals = source.globals.len() as u32;
        let mark = globals + 2 + survey.dropped.len() as u32;
        let mut next = mark + 1;
        let results = VALUES.map(|value| {
            let of = |at: &u32| {
                let results = source.type_of(source.imported + at).results();
                results.iter().filter(|result| Value::of(**result) == Some(value)).count() as u32
            };
            let (first, count) = (next, resume.keys().map(of).max().unwrap_or(0));
            next += count;
            (first, count)
        });
        let ids = Ids {
            poll: source.imported,
            resume,
            first_resume,
            reserve: behind,
            reverse: behind + 1,
            run: behind + 2,
            restored: behind + 3,
            first_shared: behind + 3 + u32::from(!survey.dropped.is_empty()),
            stack: source.memories,
            table: source.tables,
            state: globals,
            stack_pointer: globals + 1,
            dropped: survey.dropped.iter().copied().zip(globals + 2..).collect(),
            mark,
            results,
        };
        let types = source
            .types
            .iter()
            .map(|ty| {
                let callees = survey.by_type.get(&key(ty)).into_iter().flatten();
                callees.filter_map(|callee| callee.checked_sub(source.imported)).any(|at| graph.suspendable[at as usize])
            })
            .collect();
        Self { survey, graph, ids, types }
    }

    /// Whether a call of a function, by its index among all, can be suspended.
    pub(super) fn suspends(&self, function: u32) -> bool {
        function.checked_sub(self.ids.poll).is_some_and(|at| self.graph.suspendable[at as usize])
    }

    /// Whether there are resume copies, which are called through a table.
    pub(super) fn needs_table(&self) -> bool {
        !self.ids.resume.is_empty()
    }

    /// Whether a call of a type through a table can be suspended.
    pub(super) fn type_suspends(&self, ty: u32) -> bool {
        self.types[ty as usize]
    }

    /// Whether a function's nth loop polls.
    pub(super) fn polls_loop(&self, function: usize, nth: usize) -> bool {
        self.survey.functions[function].polled.get(nth).copied().unwrap_or(true)
    }
}
