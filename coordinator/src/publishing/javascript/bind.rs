//! A script and the runner made one module, without a linker: two functions of the runner get other bodies, and the script
//! becomes a data segment that one of them copies.

use wasm_encoder::{
    CodeSection, DataCountSection, DataSection, ExportSection, Function, Module, ProducersField, ProducersSection, RawSection,
};
use wasmparser::{BinaryReaderError, DataKind, ExternalKind, FunctionBody, KnownCustom, Parser, Payload, TypeRef};

/// The runner's functions that are replaced: how long the script is with its name, and copying it to a pointer.
const LENGTH: &str = "lull_script_length";
const COPY: &str = "lull_script_copy";
/// What the section of producers calls the runner.
pub(super) const PROCESSOR: &str = "lull-javascript";
const PROCESSED_BY: &str = "processed-by";

/// Between the script's name and its text.
const SEPARATOR: char = '\n';

/// The runner bound to a script: the same bytes for the same script, name and runner.
pub(super) fn bind(runner: &[u8], versions: &[(&str, &str)], name: &str, text: &str) -> Result<Vec<u8>, BinaryReaderError> {
    let script = format!("{}{SEPARATOR}{text}", name.replace(SEPARATOR, " "));
    let length = i32::try_from(script.len()).unwrap_or(i32::MAX);
    let found = Found::in_runner(runner)?;
    let mut module = Module::new();
    let mut code = CodeSection::new();
    for payload in Parser::new(0).parse_all(runner) {
        match payload? {
            Payload::ExportSection(section) => {
                let mut exports = ExportSection::new();
                for export in section {
                    let export = export?;
                    // Nobody else calls them.
                    if ![LENGTH, COPY].contains(&export.name) {
                        exports.export(export.name, kind(export.kind), export.index);
                    }
                }
                module.section(&exports);
            }
            Payload::CodeSectionStart { .. } => {
                module.section(&DataCountSection { count: found.segments + 1 });
            }
            Payload::CodeSectionEntry(body) => {
                let index = found.imported + code.len();
                if Some(index) == found.length {
                    code.function(&length_body(length));
                } else if Some(index) == found.copy {
                    code.function(&copy_body(found.segments, length));
                } else {
                    code.raw(bytes_of(runner, &body));
                }
            }
            Payload::DataSection(section) => {
                module.section(&code);
                let mut data = DataSection::new();
                for segment in section {
                    data.raw(&runner[segment?.range]);
                }
                data.passive(script.bytes());
                module.section(&data);
            }
            // Made anew, and what strippers leave of others.
            Payload::DataCountSection { .. } | Payload::CustomSection(_) => {}
            other => {
                if let Some((id, range)) = other.as_section() {
                    module.section(&RawSection { id, data: &runner[range] });
                }
            }
        }
    }
    let (mut languages, mut processors) = (ProducersField::new(), ProducersField::new());
    languages.value("JavaScript", "");
    for (name, version) in versions {
        processors.value(name, version);
    }
    module.section(ProducersSection::new().field("language", &languages).field(PROCESSED_BY, &processors));
    Ok(module.finish())
}

/// The name and the text of the script that a module was bound to; none if it is another kind of module.
pub(super) fn unbind(module: &[u8]) -> Option<(String, String)> {
    let (mut last, mut ours) = (None, false);
    for payload in Parser::new(0).parse_all(module) {
        match payload.ok()? {
            Payload::DataSection(section) => last = section.into_iter().last()?.ok(),
            Payload::CustomSection(custom) => {
                if let KnownCustom::Producers(fields) = custom.as_known() {
                    for field in fields.into_iter().flatten().filter(|field| field.name == PROCESSED_BY) {
                        ours |= field.values.into_iter().flatten().any(|value| value.name == PROCESSOR);
                    }
                }
            }
            _ => {}
        }
    }
    let script = last.filter(|segment| ours && matches!(segment.kind, DataKind::Passive))?;
    let (name, text) = std::str::from_utf8(script.data).ok()?.split_once(SEPARATOR)?;
    Some((name.to_owned(), text.to_owned()))
}

/// Where the runner has what is replaced.
#[derive(Default)]
struct Found {
    imported: u32,
    segments: u32,
    length: Option<u32>,
    copy: Option<u32>,
}

impl Found {
    fn in_runner(runner: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut found = Self::default();
        for payload in Parser::new(0).parse_all(runner) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        found.imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        match export.name {
                            LENGTH => found.length = Some(export.index),
                            COPY => found.copy = Some(export.index),
                            _ => {}
                        }
                    }
                }
                Payload::DataSection(section) => found.segments = section.count(),
                _ => {}
            }
        }
        Ok(found)
    }
}

fn kind(kind: ExternalKind) -> wasm_encoder::ExportKind {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => wasm_encoder::ExportKind::Func,
        ExternalKind::Table => wasm_encoder::ExportKind::Table,
        ExternalKind::Memory => wasm_encoder::ExportKind::Memory,
        ExternalKind::Global => wasm_encoder::ExportKind::Global,
        ExternalKind::Tag => wasm_encoder::ExportKind::Tag,
    }
}

fn bytes_of<'a>(runner: &'a [u8], body: &FunctionBody<'_>) -> &'a [u8] {
    &runner[body.range()]
}

/// `() -> i32`: the length.
fn length_body(length: i32) -> Function {
    let mut body = Function::new([]);
    body.instructions().i32_const(length).end();
    body
}

/// `(to: i32) -> ()`: the segment, all of it.
fn copy_body(segment: u32, length: i32) -> Function {
    let mut body = Function::new([]);
    body.instructions().local_get(0).i32_const(0).i32_const(length).memory_init(0, segment).end();
    body
}
