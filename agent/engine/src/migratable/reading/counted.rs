//! Loops that end soon, whatever their data are: they need no poll.
//!
//! A loop counts as short if it is a straight line that ends in its only branch, calls nothing, and steps a counter from
//! a constant to a constant:
//!
//! ```text
//! i32.const A   local.set i   ..   loop   ..   local.get i  i32.const S  i32.add  local.tee i  [i32.const B  i32.ne]  br_if 0   end
//! ```

use wasmparser::Operator;

/// Instructions that a loop may execute in all without a poll: some ten microseconds.
const SHORT: i64 = 20_000;
/// How far before a loop its counter's first value is looked for.
const LOOK_BACK: usize = 40;

/// For each `loop` of a function in source order how many instructions it executes in all, if it is short.
pub(in crate::migratable) fn short_loops(operators: &[Operator<'_>]) -> Vec<Option<u64>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for (at, operator) in operators.iter().enumerate() {
        match operator {
            Operator::Loop { .. } => {
                found.push(None);
                candidate = Some(at);
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::Else => candidate = None,
            Operator::End => {
                if let Some(start) = candidate.take()
                    && let Some(last) = found.last_mut()
                {
                    *last = length(operators, start, at);
                }
            }
            _ => {}
        }
    }
    found
}

/// What the loop that begins at `start` and ends at `end`, with nothing nested, executes, if it is short.
fn length(operators: &[Operator<'_>], start: usize, end: usize) -> Option<u64> {
    let body = &operators[start + 1..end];
    let [before @ .., Operator::BrIf { relative_depth: 0 }] = body else { return None };
    if before.iter().any(lasts_or_leaves_line) {
        return None;
    }
    let (counter, last, test) = match before {
        [.., Operator::LocalTee { local_index } | Operator::LocalGet { local_index }, Operator::I32Const { value }, test] => {
            let test = match test {
                Operator::I32Ne => Test::Differs,
                Operator::I32LtU | Operator::I32LtS => Test::Below,
                _ => return None,
            };
            (*local_index, i64::from(*value), test)
        }
        [.., Operator::LocalTee { local_index } | Operator::LocalGet { local_index }] => (*local_index, 0, Test::Differs),
        _ => return None,
    };
    let step = step_of(before, counter)?;
    let first = value_before(&operators[..start], counter)?;
    let length = test.rounds(first, last, step)?.saturating_mul(body.len() as i64);
    if length <= SHORT { u64::try_from(length).ok() } else { None }
}

enum Test {
    /// Goes on while the counter is another than the last value.
    Differs,
    /// Goes on while the counter is below it.
    Below,
}

impl Test {
    /// How often the loop runs, if that can be told.
    fn rounds(&self, first: i64, last: i64, step: i64) -> Option<i64> {
        let way = last - first;
        match self {
            Self::Differs => (step != 0 && way % step == 0 && way / step > 0).then(|| way / step),
            // Neither value is negative, so that both kinds of comparison mean the same and nothing overflows.
            Self::Below => (step > 0 && first >= 0 && last >= 0 && last + step <= i64::from(i32::MAX))
                .then(|| if way > 0 { way / step + 1 } else { 1 }),
        }
    }
}

/// What is added to the counter in each round: there is one write, and it is an addition of a constant.
fn step_of(body: &[Operator<'_>], counter: u32) -> Option<i64> {
    let mut writes = body.iter().enumerate().filter(|(_, operator)| written(operator) == Some(counter));
    let (at, _) = writes.next()?;
    if writes.next().is_some() {
        return None;
    }
    match body.get(at.checked_sub(3)?..at)? {
        [Operator::LocalGet { local_index }, Operator::I32Const { value }, Operator::I32Add] if *local_index == counter => {
            Some(i64::from(*value))
        }
        _ => None,
    }
}

/// The constant that a local was set to shortly before, on the straight line that leads here.
fn value_before(operators: &[Operator<'_>], local: u32) -> Option<i64> {
    let shortly = &operators[operators.len().saturating_sub(LOOK_BACK)..];
    for (at, operator) in shortly.iter().enumerate().rev() {
        if is_control(operator) {
            return None;
        }
        if written(operator) == Some(local) {
            let Operator::I32Const { value } = shortly.get(at.checked_sub(1)?)? else { return None };
            return Some(i64::from(*value));
        }
    }
    None
}

fn written(operator: &Operator<'_>) -> Option<u32> {
    match operator {
        Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => Some(*local_index),
        _ => None,
    }
}

fn is_control(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::End
            | Operator::Br { .. }
    )
}

/// Whether an instruction may take long by itself, or ends the straight line.
fn lasts_or_leaves_line(operator: &Operator<'_>) -> bool {
    is_control(operator)
        || matches!(
            operator,
            Operator::Call { .. }
                | Operator::CallIndirect { .. }
                | Operator::BrIf { .. }
                | Operator::BrTable { .. }
                | Operator::Return
                | Operator::Unreachable
                | Operator::MemoryCopy { .. }
                | Operator::MemoryFill { .. }
                | Operator::MemoryInit { .. }
                | Operator::MemoryGrow { .. }
        )
}
