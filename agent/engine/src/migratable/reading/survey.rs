//! A first look at all functions: whom they call, where they loop, and what none of them may do.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{ConstExpr, ElementItems, ElementSectionReader, FuncType, GlobalSectionReader, Operator};

use crate::migratable::reading::{
    counted::short_loops,
    reason::NotMovable,
    source::{SectionId, Source},
};

/// What is known of all functions.
pub(in crate::migratable) struct Survey {
    /// One for each function that the module defines, in order.
    pub functions: Vec<Facts>,
    /// Functions that can be called through a table, by their type. Indices count imported functions too.
    pub by_type: BTreeMap<FuncTypeKey, BTreeSet<u32>>,
    /// Passive data that some function drops.
    pub dropped: BTreeSet<u32>,
}

/// Types of functions are compared by what they look like.
pub(in crate::migratable) type FuncTypeKey = (Vec<wasmparser::ValType>, Vec<wasmparser::ValType>);

/// What is known of one function.
#[derive(Default)]
pub(in crate::migratable) struct Facts {
    /// Functions that it calls by name, and at how many places.
    pub calls: BTreeMap<u32, u32>,
    /// Types that it calls through a table, likewise.
    pub calls_types: BTreeMap<u32, u32>,
    /// For each loop in source order whether it needs a poll.
    pub polled: Vec<bool>,
    /// Instructions that it executes without a poll, at most: its own, and those of loops that have none.
    pub work: u64,
}

/// The key of a type.
pub(in crate::migratable) fn key(ty: &FuncType) -> FuncTypeKey {
    (ty.params().to_vec(), ty.results().to_vec())
}

/// Looks at every function.
pub(in crate::migratable) fn survey(source: &Source<'_>) -> Result<Survey, NotMovable> {
    let mut escaped = escaped_at_rest(source)?;
    let mut dropped = BTreeSet::new();
    let mut functions = Vec::with_capacity(source.bodies.len());
    for body in &source.bodies {
        let operators = body.code.get_operators_reader()?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let short = short_loops(&operators);
        let mut facts = Facts {
            polled: short.iter().map(Option::is_none).collect(),
            work: operators.len() as u64 + short.iter().flatten().sum::<u64>(),
            ..Facts::default()
        };
        for operator in &operators {
            match operator {
                Operator::Call { function_index } => *facts.calls.entry(*function_index).or_default() += 1,
                Operator::CallIndirect { type_index, .. } => *facts.calls_types.entry(*type_index).or_default() += 1,
                Operator::RefFunc { function_index } => drop(escaped.insert(*function_index)),
                Operator::DataDrop { data_index } => drop(dropped.insert(*data_index)),
                Operator::TableSet { .. } => return Err(NotMovable::Table { instruction: "table.set" }),
                Operator::TableGrow { .. } => return Err(NotMovable::Table { instruction: "table.grow" }),
                Operator::TableFill { .. } => return Err(NotMovable::Table { instruction: "table.fill" }),
                Operator::TableCopy { .. } => return Err(NotMovable::Table { instruction: "table.copy" }),
                Operator::TableInit { .. } => return Err(NotMovable::Table { instruction: "table.init" }),
                _ => {}
            }
        }
        functions.push(facts);
    }
    let mut by_type = BTreeMap::<_, BTreeSet<u32>>::new();
    for function in escaped {
        by_type.entry(key(source.type_of(function))).or_default().insert(function);
    }
    Ok(Survey { functions, by_type, dropped })
}

/// Functions whose references are in segments and globals.
fn escaped_at_rest(source: &Source<'_>) -> Result<BTreeSet<u32>, NotMovable> {
    let mut escaped = BTreeSet::new();
    let mut look = |expression: &ConstExpr<'_>| -> Result<(), NotMovable> {
        for operator in expression.get_operators_reader() {
            if let Operator::RefFunc { function_index } = operator? {
                escaped.insert(function_index);
            }
        }
        Ok(())
    };
    if let Some(section) = source.section(SectionId::Global) {
        for global in GlobalSectionReader::new(wasmparser::BinaryReader::new(section, 0))? {
            look(&global?.init_expr)?;
        }
    }
    let mut named = Vec::new();
    if let Some(section) = source.section(SectionId::Element) {
        for element in ElementSectionReader::new(wasmparser::BinaryReader::new(section, 0))? {
            match element?.items {
                ElementItems::Functions(functions) => {
                    for function in functions {
                        named.push(function?);
                    }
                }
                ElementItems::Expressions(_, expressions) => {
                    for expression in expressions {
                        look(&expression?)?;
                    }
                }
            }
        }
    }
    escaped.extend(named);
    Ok(escaped)
}
