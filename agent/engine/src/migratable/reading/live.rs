//! Which locals a function still needs where it can be suspended: those that are read later before they are written.

use crate::migratable::reading::{
    reason::NotMovable,
    tape::{Kind, Step, Tape},
};

/// Words touched for one function; more is made to exhaust us. A large interpreter takes ten million.
const WORK_MAX: usize = 1 << 31;

/// For each point the locals that are live there, in order.
pub(in crate::migratable) fn live_locals(tape: &Tape<'_>) -> Result<Vec<Vec<u32>>, NotMovable> {
    let mut analysis = Analysis {
        tape,
        words: tape.locals.len().div_ceil(64),
        at_points: vec![Set::default(); tape.points.len()],
        at_loops: vec![Set::default(); tape.steps.len()],
        work: 0,
    };
    // What is live at the head of a loop is known when a walk through its body adds nothing to it.
    while analysis.walk()? {}
    Ok(analysis.at_points.into_iter().map(|set| set.members().collect()).collect())
}

/// Locals, a bit for each. Empty without words until something is added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Set(Vec<u64>);

impl Set {
    fn insert(&mut self, local: u32, words: usize) {
        self.0.resize(words, 0);
        self.0[local as usize / 64] |= 1 << (local % 64);
    }

    fn remove(&mut self, local: u32) {
        if let Some(word) = self.0.get_mut(local as usize / 64) {
            *word &= !(1 << (local % 64));
        }
    }

    fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    fn contains_all(&self, other: &Self) -> bool {
        other.0.iter().enumerate().all(|(at, word)| word & !self.0.get(at).copied().unwrap_or(0) == 0)
    }

    fn members(&self) -> impl Iterator<Item = u32> {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(at, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at as u32 * 64 + bit))
    }
}

struct Analysis<'t, 'a> {
    tape: &'t Tape<'a>,
    words: usize,
    at_points: Vec<Set>,
    /// By the step that opens a loop.
    at_loops: Vec<Set>,
    work: usize,
}

/// A block that the walk is in, from behind.
struct Block {
    /// What is live where a branch to it leads.
    label: Set,
    /// What is live behind it.
    behind: Set,
    /// What is live at the beginning of the part behind `else`.
    otherwise: Option<Set>,
}

impl Analysis<'_, '_> {
    /// Walks once through all steps, the last first. Says whether a loop's head has become live in more locals.
    fn walk(&mut self) -> Result<bool, NotMovable> {
        let tape = self.tape;
        let mut grown = false;
        let mut live = Set::default();
        let mut blocks: Vec<Block> = Vec::new();
        for (at, step) in tape.steps.iter().enumerate().rev() {
            let target = |depth: &u32| &blocks[blocks.len() - 1 - *depth as usize].label;
            match step {
                Step::Get(local) => live.insert(*local, self.words),
                Step::Set(local) | Step::Tee(local) => live.remove(*local),
                Step::Branch(depth) => live.clone_from(target(depth)),
                Step::BranchIf(depth) => live.add(target(depth)),
                Step::BranchTable(depths) => {
                    self.work += self.words * depths.len();
                    live = Set::default();
                    depths.iter().for_each(|depth| live.add(target(depth)));
                }
                Step::Return | Step::Unreachable => live = Set::default(),
                Step::Point(call) => self.at_points[call.point as usize].clone_from(&live),
                Step::End { open, .. } => {
                    let is_loop =
                        open.is_some_and(|open| matches!(&tape.steps[open], Step::Open(block) if block.kind == Kind::Loop));
                    let label = match open {
                        Some(open) if is_loop => self.at_loops[*open].clone(),
                        _ => live.clone(),
                    };
                    blocks.push(Block { label, behind: live.clone(), otherwise: None });
                }
                Step::Else { .. } => {
                    if let Some(block) = blocks.last_mut() {
                        block.otherwise = Some(std::mem::replace(&mut live, block.behind.clone()));
                    }
                }
                Step::Open(open) => {
                    let Some(block) = blocks.pop() else { continue };
                    match open.kind {
                        Kind::Block => {}
                        Kind::If => live.add(block.otherwise.as_ref().unwrap_or(&block.behind)),
                        Kind::Loop => {
                            let head = &mut self.at_loops[at];
                            if !head.contains_all(&live) {
                                grown = true;
                                head.add(&live);
                            }
                            live.clone_from(head);
                            if open.suspends() {
                                self.at_points[open.points.start as usize].clone_from(head);
                            }
                        }
                    }
                }
                Step::Plain(_) | Step::Call(_) | Step::RefFunc(_) | Step::DataDrop { .. } => continue,
            }
            self.work += self.words + 1;
            if self.work > WORK_MAX {
                return Err(NotMovable::TooLarge { what: "a function has too many locals and loops" });
            }
        }
        if tape.polls_at_entry {
            self.at_points[0] = live;
        }
        Ok(grown)
    }
}
