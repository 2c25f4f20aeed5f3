//! What is decided for the whole module before any function is written: who can be suspended, and who has which index.

use std::collections::BTreeMap;

use super::{
    callgraph::CallGraph,
    source::Source,
    survey::{Survey, key},
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
}

impl Ids {
    /// A function's index in the build.
    pub fn function(&self, index: u32) -> u32 {
        if index < self.poll { index } else { index + 1 }
    }
}

impl Plan {
    pub fn new(source: &Source<'_>, survey: Survey) -> Self {
        let graph = CallGraph::new(source, &survey);
        let functions = source.bodies.len() as u32;
        let first_resume = source.imported + 1 + functions;
        let suspendable = (0..functions).filter(|at| graph.suspendable[*at as usize]);
        let resume: BTreeMap<u32, u32> = suspendable.zip(first_resume..).collect();
        let behind = first_resume + resume.len() as u32;
        let globals = source.globals.len() as u32;
        let ids = Ids {
            poll: source.imported,
            resume,
            first_resume,
            reserve: behind,
            run: behind + 1,
            restored: behind + 2,
            first_shared: behind + 2 + u32::from(!survey.dropped.is_empty()),
            stack: source.memories,
            table: source.tables,
            state: globals,
            stack_pointer: globals + 1,
            dropped: survey.dropped.iter().copied().zip(globals + 2..).collect(),
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
    pub fn suspends(&self, function: u32) -> bool {
        function.checked_sub(self.ids.poll).is_some_and(|at| self.graph.suspendable[at as usize])
    }

    /// Whether there is a call through a table that can be suspended.
    pub fn needs_table(&self) -> bool {
        self.types.contains(&true)
    }

    /// Whether a call of a type through a table can be suspended.
    pub fn type_suspends(&self, ty: u32) -> bool {
        self.types[ty as usize]
    }

    /// Whether a function's nth loop polls.
    pub fn polls_loop(&self, function: usize, nth: usize) -> bool {
        self.survey.functions[function].polled.get(nth).copied().unwrap_or(true)
    }
}
