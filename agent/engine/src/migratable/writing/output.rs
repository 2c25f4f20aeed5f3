//! Puts a build together: the module's sections with what is added to them.

use std::borrow::Cow;

use wasm_encoder::{
    BranchHints, CodeSection, ConstExpr, CustomSection, ElementMode, ElementSection, ElementSegment, Elements, Encode,
    ExportKind, ExportSection, MemoryType, Module, RawSection, RefType, TableType, ValType,
};
use wasmparser::{BinaryReader, ElementItems, ElementKind, ElementSectionReader, ExternalKind, GlobalSectionReader, Operator};

use crate::migratable::{
    contract,
    plan::Plan,
    reading::{
        reason::NotMovable,
        source::{SectionId, Source},
        value::{VALUES, Value},
    },
    writing::code::Types,
};

/// All functions of a build, in order.
pub(in crate::migratable) struct Functions {
    pub code: CodeSection,
    pub hints: BranchHints,
    /// The types of those that are added.
    pub added: Vec<u32>,
}

/// The build's bytes.
pub(in crate::migratable) fn assemble(
    source: &Source<'_>,
    plan: &Plan,
    mut types: Types,
    functions: &Functions,
) -> Result<Vec<u8>, NotMovable> {
    let poll = types.function(&[], &[Value::I32]);
    let mut module = Module::new();
    let mut add = |id: SectionId, data: &[u8]| {
        module.section(&RawSection { id: id as u8, data });
    };
    add(SectionId::Type, &grown(source, SectionId::Type, types.added().iter().map(type_entry))?);
    add(SectionId::Import, &grown(source, SectionId::Import, [poll_import(poll)])?);
    add(SectionId::Function, &grown(source, SectionId::Function, functions.added.iter().map(encoded))?);
    let tables = plan.needs_table().then(|| encoded(&resume_table(plan)));
    if tables.is_some() || source.section(SectionId::Table).is_some() {
        add(SectionId::Table, &grown(source, SectionId::Table, tables)?);
    }
    add(SectionId::Memory, &grown(source, SectionId::Memory, [encoded(&stack())])?);
    add(SectionId::Global, &globals(source, plan)?);
    module.section(&exports(source, plan));
    if plan.needs_table() || source.section(SectionId::Element).is_some() {
        module.section(&elements(source, plan)?);
    }
    if let Some(data) = source.section(SectionId::DataCount) {
        module.section(&RawSection { id: SectionId::DataCount as u8, data });
    }
    module.section(&functions.hints);
    module.section(&functions.code);
    if let Some(data) = source.section(SectionId::Data) {
        module.section(&RawSection { id: SectionId::Data as u8, data });
    }
    let mut mark = vec![contract::VERSION];
    mark.extend_from_slice(blake3::hash(source.bytes).as_bytes());
    module.section(&CustomSection { name: contract::SECTION.into(), data: mark.into() });
    Ok(module.finish())
}

/// A section as it is, with entries behind its own.
fn grown(source: &Source<'_>, id: SectionId, added: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<u8>, NotMovable> {
    let (count, entries) = match source.section(id) {
        Some(section) => {
            let mut reader = BinaryReader::new(section, 0);
            (reader.read_var_u32()?, &section[reader.original_position()..])
        }
        None => (0, &[][..]),
    };
    let added: Vec<Vec<u8>> = added.into_iter().collect();
    let mut section = Vec::with_capacity(entries.len() + 16);
    (count + added.len() as u32).encode(&mut section);
    section.extend_from_slice(entries);
    added.iter().for_each(|entry| section.extend_from_slice(entry));
    Ok(section)
}

fn encoded(entry: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

fn type_entry((parameters, results): &(Vec<Value>, Vec<Value>)) -> Vec<u8> {
    let mut bytes = vec![0x60];
    for types in [parameters, results] {
        types.iter().map(|value| ValType::from(*value)).collect::<Vec<_>>().encode(&mut bytes);
    }
    bytes
}

fn poll_import(ty: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    contract::IMPORT_MODULE.encode(&mut bytes);
    contract::IMPORT_POLL.encode(&mut bytes);
    bytes.push(0x00);
    ty.encode(&mut bytes);
    bytes
}

fn resume_table(plan: &Plan) -> TableType {
    let size = plan.ids.resume.len() as u64;
    TableType { element_type: RefType::FUNCREF, table64: false, minimum: size, maximum: Some(size), shared: false }
}

fn stack() -> MemoryType {
    MemoryType { minimum: 1, maximum: Some(contract::STACK_PAGES_MAX), memory64: false, shared: false, page_size_log2: None }
}

/// The module's globals, references to functions moved, then the pass' own.
fn globals(source: &Source<'_>, plan: &Plan) -> Result<Vec<u8>, NotMovable> {
    let mut section = Vec::new();
    let numbers = [0, contract::STACK_BASE as i32].into_iter().chain(plan.ids.dropped.iter().map(|_| 0)).chain([0]);
    let numbers = numbers.map(|value| (Value::I32, ConstExpr::i32_const(value)));
    let carriers = VALUES.iter().zip(plan.ids.results).flat_map(|(value, (_, count))| (0..count).map(|_| (*value, value.rest())));
    let own: Vec<_> = numbers.chain(carriers).collect();
    ((source.globals.len() + own.len()) as u32).encode(&mut section);
    if let Some(content) = source.section(SectionId::Global) {
        for global in GlobalSectionReader::new(BinaryReader::new(content, 0))?.into_iter_with_offsets() {
            let (at, global) = global?;
            let value = global.init_expr.get_binary_reader().range();
            section.extend_from_slice(&content[at..value.start]);
            moved(&global.init_expr, &content[value], plan)?.encode(&mut section);
        }
    }
    for (ty, value) in own {
        ValType::from(ty).encode(&mut section);
        section.push(0x01);
        value.encode(&mut section);
    }
    Ok(section)
}

/// A constant expression whose reference to a function, if it is one, is moved. `bytes` are its own, with `end`.
fn moved(expression: &wasmparser::ConstExpr<'_>, bytes: &[u8], plan: &Plan) -> Result<ConstExpr, NotMovable> {
    Ok(match expression.get_operators_reader().read()? {
        Operator::RefFunc { function_index } => ConstExpr::ref_func(plan.ids.function(function_index)),
        _ => ConstExpr::raw(bytes[..bytes.len() - 1].iter().copied()),
    })
}

fn elements(source: &Source<'_>, plan: &Plan) -> Result<ElementSection, NotMovable> {
    let mut section = ElementSection::new();
    let content = source.section(SectionId::Element).unwrap_or(&[0]);
    let expression =
        |expression: &wasmparser::ConstExpr<'_>| moved(expression, &content[expression.get_binary_reader().range()], plan);
    for element in ElementSectionReader::new(BinaryReader::new(content, 0))? {
        let element = element?;
        let offset;
        let mode = match &element.kind {
            ElementKind::Passive => ElementMode::Passive,
            ElementKind::Declared => ElementMode::Declared,
            ElementKind::Active { table_index, offset_expr } => {
                offset = expression(offset_expr)?;
                ElementMode::Active { table: *table_index, offset: &offset }
            }
        };
        let elements = match element.items {
            ElementItems::Functions(functions) => {
                let functions = functions.into_iter().map(|function| Ok(plan.ids.function(function?)));
                Elements::Functions(functions.collect::<Result<Vec<_>, NotMovable>>()?.into())
            }
            ElementItems::Expressions(_, expressions) => {
                let expressions = expressions.into_iter().map(|item| expression(&item?));
                Elements::Expressions(RefType::FUNCREF, Cow::Owned(expressions.collect::<Result<Vec<_>, NotMovable>>()?))
            }
        };
        section.segment(ElementSegment { mode, elements });
    }
    if plan.needs_table() {
        let offset = ConstExpr::i32_const(0);
        let resume: Vec<u32> = plan.ids.resume.values().copied().collect();
        let mode = ElementMode::Active { table: Some(plan.ids.table), offset: &offset };
        section.segment(ElementSegment { mode, elements: Elements::Functions(resume.into()) });
    }
    Ok(section)
}

fn exports(source: &Source<'_>, plan: &Plan) -> ExportSection {
    let mut section = ExportSection::new();
    for export in &source.exports {
        let (kind, index) = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => (ExportKind::Func, plan.ids.function(export.index)),
            ExternalKind::Table => (ExportKind::Table, export.index),
            ExternalKind::Memory => (ExportKind::Memory, export.index),
            ExternalKind::Global => (ExportKind::Global, export.index),
            ExternalKind::Tag => (ExportKind::Tag, export.index),
        };
        section.export(export.name, kind, index);
    }
    section.export(contract::STACK, ExportKind::Memory, plan.ids.stack);
    section.export(contract::STATE, ExportKind::Global, plan.ids.state);
    section.export(contract::STACK_POINTER, ExportKind::Global, plan.ids.stack_pointer);
    section.export(contract::RUN, ExportKind::Func, plan.ids.run);
    if !plan.ids.dropped.is_empty() {
        section.export(contract::RESTORED, ExportKind::Func, plan.ids.restored);
    }
    for memory in 0..source.memories {
        section.export(&format!("{}{memory}", contract::MEMORY_PREFIX), ExportKind::Memory, memory);
    }
    let mutable = (0..).zip(&source.globals).filter(|(_, global)| global.mutable).map(|(at, _)| at);
    for global in mutable {
        section.export(&format!("{}{global}", contract::GLOBAL_PREFIX), ExportKind::Global, global);
    }
    for (number, global) in (source.globals.len()..).zip(plan.ids.dropped.values()) {
        section.export(&format!("{}{number}", contract::GLOBAL_PREFIX), ExportKind::Global, *global);
    }
    section
}
