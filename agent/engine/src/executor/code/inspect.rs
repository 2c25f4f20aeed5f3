//! Whether a module can be run by any agent, found out before it is published, with the reason in words.

use lull_shared::{amount::sizes, limits, message::ModuleKind};
use wasmparser::{
    CustomSectionReader, Encoding, ExternalKind, KnownCustom, MemoryType, Parser, Payload, TableType, TypeRef, Validator,
    WasmFeatures,
    types::{CoreTypeId, Types},
};

use crate::executor::code::{engine, preview1};

const RUN: &str = "wasi:cli/run@0.2.";
const START: &str = "_start";
const PAGE_BYTES: u64 = 64 << 10;
/// Makers of a module that are told: toolchains name a language, a compiler and a linker.
const MAKERS_MAX: usize = 8;

/// What a module is and wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub kind: ModuleKind,
    pub size_bytes: u64,
    /// `module::name` or an interface, as the module names them.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// The linear memory that it begins with, in bytes.
    pub memory_bytes: u64,
    /// Whether code of it runs when it is instantiated.
    pub starts: bool,
    /// The language and the tools that it says it was made with, each with its version.
    pub makers: Vec<String>,
}

/// Why no agent would run a module, and what its author can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the file is empty\nhint: look whether the build of the function succeeded, and name the file that it made")]
    Empty,
    #[error("this is WebAssembly in its text form\nhint: convert it with `wasm-tools parse` or `wat2wasm` first")]
    Text,
    #[error("this is not WebAssembly{found}\nhint: build the function for wasm32-wasip1 or wasm32-wasip2")]
    NotWasm { found: &'static str },
    #[error("the module has {} and at most {} are taken\nhint: strip its debug information, with wasm-strip or by its toolchain", sizes(*size_bytes, *max_bytes).0, sizes(*size_bytes, *max_bytes).1)]
    TooLarge { size_bytes: u64, max_bytes: u64 },
    #[error(
        "the module is damaged or uses a proposal that agents do not run: {reason}\nhint: build it again; if it is the same then, leave out what the compiler was told to use beyond its defaults"
    )]
    Invalid { reason: String },
    #[error(
        "it uses exceptions in their older form, which agents do not run\nhint: convert it with `wasm-opt --translate-to-exnref \
         --all-features` (of binaryen), or build it with `-mllvm -wasm-use-legacy-eh=false` where the compiler knows that"
    )]
    LegacyExceptions,
    #[error("it uses threads or shared memory, which agents do not offer\nhint: build it without (no -pthread, no atomics)")]
    Threads,
    #[error("it has a 64-bit memory, which agents do not offer\nhint: build it for wasm32")]
    Memory64,
    #[error("it begins with {} of memory and an attempt has {} at most\nhint: build it with a smaller initial memory, which may grow", sizes(*needed_bytes, *max_bytes).0, sizes(*needed_bytes, *max_bytes).1)]
    Memory { needed_bytes: u64, max_bytes: u64 },
    #[error("it has {found} {what} and a module has {max} at most\nhint: build it as one module with one of them")]
    Many { what: &'static str, found: u64, max: u64 },
    #[error(
        "it begins with a table of {elements} entries and a table has {max} at most\nhint: build it with fewer functions: optimise for size, and leave out what is not called"
    )]
    Table { elements: u64, max: u64 },
    #[error("it imports `{import}`, which agents do not offer\nhint: {advice}")]
    Import { import: String, advice: &'static str },
    #[error(
        "it imports `{import}` as {found}, and agents offer it as {offered}\nhint: build it with a toolchain that follows WASI preview 1"
    )]
    ImportType { import: String, found: String, offered: String },
    #[error("it has no `_start`\nhint: {advice}")]
    NoStart { advice: &'static str },
    #[error(
        "its `_start` is {found}, and a command's takes nothing and returns nothing\nhint: build it as a command, with a main function; exit codes go through `proc_exit`"
    )]
    StartType { found: String },
    #[error("the component does not export `wasi:cli/run@0.2`\nhint: build it as a command, not as a library")]
    NoRun,
    #[error(
        "it is a component of {wasi} (`{interface}`), and agents run those of WASI 0.2\nhint: build it for wasm32-wasip2 or \
         wasm32-wasip1"
    )]
    OtherWasi { wasi: String, interface: String },
}

/// Looks at a module and says what it is, or why no agent can run it.
pub fn inspect(module: &[u8]) -> Result<Inspection, Refusal> {
    let kind = kind(module)?;
    let invalid = |error: wasmparser::BinaryReaderError| Refusal::Invalid { reason: error.to_string() };
    let mut survey = Survey::default();
    for payload in Parser::new(0).parse_all(module) {
        survey.see(payload.map_err(invalid)?).map_err(invalid)?;
    }
    survey.check_memories()?;
    survey.check_tables(kind)?;
    match kind {
        ModuleKind::Preview1 => check_module(&survey)?,
        ModuleKind::Component => check_component(&survey)?,
    }
    let types = validate(module)?;
    if kind == ModuleKind::Preview1 {
        check_types(&survey, &types)?;
    }
    Ok(Inspection {
        kind,
        size_bytes: module.len() as u64,
        memory_bytes: survey.memory_bytes(),
        starts: survey.starts,
        makers: survey.makers,
        imports: survey.imports.into_iter().map(|import| import.to_string()).collect(),
        exports: survey.exports,
    })
}

/// The module's types, if it keeps to the rules; a proposal that it uses and must not is named if it can be.
fn validate(module: &[u8]) -> Result<Types, Refusal> {
    let valid = |features| Validator::new_with_features(features).validate_all(module);
    valid(engine::FEATURES).map_err(|error| {
        let refused = [
            (WasmFeatures::LEGACY_EXCEPTIONS, Refusal::LegacyExceptions),
            (WasmFeatures::THREADS, Refusal::Threads),
            (WasmFeatures::MEMORY64, Refusal::Memory64),
        ];
        let named = refused.into_iter().find(|(features, _)| valid(engine::FEATURES | *features).is_ok());
        named.map_or(Refusal::Invalid { reason: error.to_string() }, |(_, reason)| reason)
    })
}

fn kind(module: &[u8]) -> Result<ModuleKind, Refusal> {
    let size_bytes = module.len() as u64;
    if size_bytes > limits::MODULE_BYTES_MAX {
        return Err(Refusal::TooLarge { size_bytes, max_bytes: limits::MODULE_BYTES_MAX });
    }
    if Parser::is_core_wasm(module) {
        return Ok(ModuleKind::Preview1);
    }
    if Parser::is_component(module) {
        return Ok(ModuleKind::Component);
    }
    let start = module.trim_ascii_start();
    Err(match start {
        [] => Refusal::Empty,
        [b'(' | b';', ..] => Refusal::Text,
        [0x7f, b'E', b'L', b'F', ..] => Refusal::NotWasm { found: " but a program for Linux" },
        [b'M', b'Z', ..] => Refusal::NotWasm { found: " but a program for Windows" },
        [b'#', b'!', ..] => Refusal::NotWasm { found: " but a script" },
        _ => Refusal::NotWasm { found: "" },
    })
}

/// Everything in a module that matters here; of a component, its own imports and exports and all memories within.
#[derive(Default)]
struct Survey {
    depth: u32,
    imports: Vec<Import>,
    exports: Vec<String>,
    memories: Vec<MemoryType>,
    starts: bool,
    makers: Vec<String>,
    tables: Vec<TableType>,
    /// The module's own `_start`, by its index among all functions.
    start: Option<u32>,
}

struct Import {
    module: String,
    name: String,
    what: Imported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Imported {
    Function,
    Other(&'static str),
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() { f.write_str(&self.module) } else { write!(f, "{}::{}", self.module, self.name) }
    }
}

impl Survey {
    fn see(&mut self, payload: Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.memories.push(memory?);
                }
            }
            Payload::StartSection { .. } | Payload::ComponentStartSection { .. } => self.starts = true,
            Payload::TableSection(tables) => {
                for table in tables {
                    self.tables.push(table?.ty);
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    if let TypeRef::Memory(memory) = import.ty {
                        self.memories.push(memory);
                    }
                    let what = match import.ty {
                        TypeRef::Func(_) => Imported::Function,
                        TypeRef::FuncExact(_) => Imported::Other("a function of an exact type"),
                        TypeRef::Memory(_) => Imported::Other("a memory"),
                        TypeRef::Table(_) => Imported::Other("a table"),
                        TypeRef::Global(_) => Imported::Other("a global"),
                        TypeRef::Tag(_) => Imported::Other("a tag"),
                    };
                    self.import(import.module, import.name, what);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let is_function = export.kind == ExternalKind::Func;
                    if is_function || export.name != START {
                        self.export(export.name);
                    }
                    if is_function && export.name == START && self.depth == 0 {
                        self.start = Some(export.index);
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    self.import(import?.name.name, "", Imported::Other("a part of a component"));
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    self.export(export?.name.name);
                }
            }
            Payload::CustomSection(section) if self.depth == 0 => self.made_with(&section),
            Payload::Version { encoding: Encoding::Module | Encoding::Component, .. } => {}
            _ => {}
        }
        Ok(())
    }

    /// A section that says nothing, or nonsense, says nothing.
    fn made_with(&mut self, section: &CustomSectionReader<'_>) {
        let KnownCustom::Producers(fields) = section.as_known() else { return };
        for value in fields.into_iter().flatten().flat_map(|field| field.values.into_iter().flatten()) {
            if self.makers.len() < MAKERS_MAX {
                self.makers.push(format!("{} {}", value.name, value.version).trim().to_owned());
            }
        }
    }

    fn import(&mut self, module: &str, name: &str, what: Imported) {
        if self.depth == 0 {
            self.imports.push(Import { module: module.into(), name: name.into(), what });
        }
    }

    fn export(&mut self, name: &str) {
        if self.depth == 0 {
            self.exports.push(name.into());
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.memories.iter().fold(0, |sum, memory| sum.saturating_add(memory.initial.saturating_mul(PAGE_BYTES)))
    }

    fn check_memories(&self) -> Result<(), Refusal> {
        if self.memories.iter().any(|memory| memory.shared) {
            return Err(Refusal::Threads);
        }
        if self.memories.iter().any(|memory| memory.memory64) {
            return Err(Refusal::Memory64);
        }
        let (needed_bytes, max_bytes) = (self.memory_bytes(), limits::MEMORY_BYTES_MAX);
        if needed_bytes > max_bytes { Err(Refusal::Memory { needed_bytes, max_bytes }) } else { Ok(()) }
    }
}

impl Survey {
    fn check_tables(&self, kind: ModuleKind) -> Result<(), Refusal> {
        let max = engine::table_elements(kind) as u64;
        match self.tables.iter().map(|table| table.initial).find(|elements| *elements > max) {
            Some(elements) => Err(Refusal::Table { elements, max }),
            None => Ok(()),
        }
    }

    /// How many there may be of each; an agent counts those of a component when it puts it together.
    fn check_counts(&self) -> Result<(), Refusal> {
        let counted = [
            ("memories", self.memories.len(), engine::MEMORIES_OF_A_MODULE),
            ("tables", self.tables.len(), engine::TABLES_OF_A_MODULE),
        ];
        match counted.into_iter().find(|(_, found, max)| *found > *max as usize) {
            Some((what, found, max)) => Err(Refusal::Many { what, found: found as u64, max: max.into() }),
            None => Ok(()),
        }
    }
}

fn check_module(survey: &Survey) -> Result<(), Refusal> {
    survey.check_counts()?;
    for import in &survey.imports {
        let known = if import.module == preview1::MODULE { preview1::type_of(&import.name) } else { None };
        let Some(known) = known else {
            return Err(Refusal::Import { import: import.to_string(), advice: advice(&import.module) });
        };
        if let Imported::Other(found) = import.what {
            let offered = preview1::in_words(&known);
            return Err(Refusal::ImportType { import: import.to_string(), found: found.into(), offered });
        }
    }
    if survey.exports.iter().any(|export| export == START) {
        return Ok(());
    }
    Err(Refusal::NoStart {
        advice: if survey.exports.iter().any(|export| export == "_initialize") {
            "build it as a command, with a main function: it was built as a library (a reactor)"
        } else {
            "build it as a command for wasm32-wasip1, with a main function"
        },
    })
}

/// Whether what is imported and what is called have the types that they must have.
fn check_types(survey: &Survey, types: &Types) -> Result<(), Refusal> {
    let function = |index| {
        let id: CoreTypeId = types.as_ref().core_function_at(index);
        types[id].unwrap_func()
    };
    for (index, import) in (0..).zip(&survey.imports) {
        let found = function(index);
        if let Some(offered) = preview1::type_of(&import.name).filter(|offered| offered != found) {
            let (found, offered) = (preview1::in_words(found), preview1::in_words(&offered));
            return Err(Refusal::ImportType { import: import.to_string(), found, offered });
        }
    }
    match survey.start.map(function) {
        Some(start) if !(start.params().is_empty() && start.results().is_empty()) => {
            Err(Refusal::StartType { found: preview1::in_words(start) })
        }
        _ => Ok(()),
    }
}

fn advice(module: &str) -> &'static str {
    match module {
        preview1::MODULE => "build it with a toolchain for WASI preview 1: this one seems to be newer or older",
        "wasi_unstable" => "use a newer toolchain: it was built for WASI before preview 1",
        "env" | "a" => "build it for wasm32-wasip1: it was built for a browser, or a library is missing",
        "wbg" | "__wbindgen_placeholder__" | "./index_bg.js" => {
            "build it for wasm32-wasip1: wasm-bindgen built it for JavaScript"
        }
        "wasi" => "build it without threads",
        "gojs" | "go" => "build it with GOOS=wasip1: it was built for JavaScript",
        _ => "leave out what needs it: only WASI preview 1 is there",
    }
}

fn check_component(survey: &Survey) -> Result<(), Refusal> {
    // Whatever else is wrong with it, this is what its author has to change first.
    let imported = survey.imports.iter().map(|import| import.module.as_str());
    let of_another = imported.chain(survey.exports.iter().map(String::as_str)).find_map(|interface| {
        let wasi = other_wasi(interface)?;
        Some(Refusal::OtherWasi { wasi, interface: interface.to_owned() })
    });
    if let Some(refusal) = of_another {
        return Err(refusal);
    }
    for Import { module: import, .. } in &survey.imports {
        let offered = import
            .split_once('@')
            .is_some_and(|(interface, version)| version.starts_with("0.2.") && INTERFACES.contains(&interface));
        if !offered {
            let advice = match import.split(['/', '@']).next() {
                Some("wasi:http") => "leave out what needs it: functions have no network",
                _ => "leave out what needs it: only the interfaces of the world wasi:cli/command@0.2 are there",
            };
            return Err(Refusal::Import { import: import.clone(), advice });
        }
    }
    if survey.exports.iter().any(|export| export.starts_with(RUN)) { Ok(()) } else { Err(Refusal::NoRun) }
}

/// The release of WASI that an interface is of, if agents run another: `wasi:cli/run@0.3.0` -> `WASI 0.3`. Whether the
/// interface is one of a command's is another question.
fn other_wasi(interface: &str) -> Option<String> {
    let (name, version) = interface.split_once('@')?;
    let (package, _) = name.split_once('/')?;
    let mut numbers = version.split(['.', '-', '+']);
    let (major, minor) = (numbers.next()?, numbers.next()?);
    let is_a_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let of_a_command = COMMAND_PACKAGES.contains(&package) && is_a_number(major) && is_a_number(minor);
    (of_a_command && (major, minor) != ("0", "2")).then(|| format!("WASI {major}.{minor}"))
}

/// The packages of the world `wasi:cli/command`, which share its release. Others, such as `wasi:nn`, count their own.
const COMMAND_PACKAGES: [&str; 6] = ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];

/// The world `wasi:cli/command`. Sockets are there for libraries that link them; every use is refused.
const INTERFACES: [&str; 28] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
    "wasi:cli/run",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> Result<Inspection, Refusal> {
        inspect(&wat::parse_str(text).expect("valid text"))
    }

    #[test]
    fn a_command_is_described() {
        let found = look(
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i32)))
                (memory (export \"memory\") 2) (func (export \"_start\")))",
        )
        .expect("it can be run");
        assert_eq!((found.kind, found.memory_bytes), (ModuleKind::Preview1, 2 * PAGE_BYTES));
        assert_eq!(found.imports, ["wasi_snapshot_preview1::proc_exit"]);
        assert_eq!(found.exports, ["memory", "_start"]);
    }

    #[test]
    fn every_refusal_says_why() {
        let reason = |text: &str| {
            let words = look(text).expect_err("it cannot be run").to_string();
            assert!(lull_shared::hint::split(&words).1.is_some(), "{words}");
            words
        };
        assert!(reason("(module (import \"env\" \"f\" (func)) (func (export \"_start\")))").contains("`env::f`"));
        assert!(reason("(module (func (export \"_initialize\")))").contains("reactor"));
        assert!(reason("(module (global (export \"_start\") i32 (i32.const 0)))").contains("main function"));
        assert!(reason("(module (memory 1 2 shared) (func (export \"_start\")))").contains("threads"));
        assert!(reason("(module (memory i64 1) (func (export \"_start\")))").contains("64-bit"));
        assert!(
            reason("(module (memory 40000) (memory 40000) (func (export \"_start\")))").contains("begins with 4.9 GiB of memory")
        );
        assert!(reason("(component)").contains("wasi:cli/run"));
        assert!(reason("(component (import \"wasi:http/types@0.2.0\" (instance)))").contains("no network"));
    }

    #[test]
    fn a_component_of_another_wasi_is_told_which_one_it_is_and_which_agents_run() {
        let reason = |text: &str| look(text).expect_err("it cannot be run").to_string();
        let imports = reason("(component (import \"wasi:cli/stdout@0.3.0\" (instance)))");
        assert!(imports.starts_with("it is a component of WASI 0.3 (`wasi:cli/stdout@0.3.0`)"), "{imports}");
        assert!(imports.contains("\nhint: build it for wasm32-wasip2"), "{imports}");
        let exports = reason("(component (instance $run) (export \"wasi:cli/run@0.3.0-rc-2025-09-16\" (instance $run)))");
        assert!(exports.contains("WASI 0.3") && !exports.contains("library"), "{exports}");
        // The first wrong import is not the reason: its author has to build for another WASI first.
        let both = reason("(component (import \"wasi:http/types@0.3.0\" (instance)) (import \"wasi:io/poll@0.3.1\" (instance)))");
        assert!(both.contains("WASI 0.3 (`wasi:io/poll@0.3.1`)"), "{both}");
        let own = reason("(component (import \"wasi:nn/tensor@0.3.0\" (instance)))");
        assert!(own.contains("imports `wasi:nn/tensor@0.3.0`"), "{own}");
        assert!(reason("(component (import \"wasi:cli/stdout@0.2.9\" (instance)))").contains("wasi:cli/run@0.2"));
    }

    #[test]
    fn what_no_agent_could_instantiate_is_refused_with_its_reason() {
        let reason = |text: &str| {
            let words = look(text).expect_err("it cannot be run").to_string();
            assert!(lull_shared::hint::split(&words).1.is_some(), "{words}");
            words
        };
        let write =
            |ty: &str| format!("(module (import \"wasi_snapshot_preview1\" \"fd_write\" {ty}) (func (export \"_start\")))");
        assert!(
            reason(&write("(func (param i32) (result i32))")).contains("as (func (param i32) (result i32)), and agents offer")
        );
        assert!(reason(&write("(global i32)")).contains("as a global"));
        assert!(reason(&write("(memory 1)")).contains("as a memory"));
        assert!(reason("(module (func (export \"_start\") (param i32)))").contains("`_start` is (func (param i32))"));
        assert!(reason("(module (func (export \"_start\") (result i32) (i32.const 0)))").contains("`proc_exit`"));
        assert!(reason("(module (table 3000000 funcref) (func (export \"_start\")))").contains("3000000 entries"));
        let many = |what: &str, count| format!("(module {} (func (export \"_start\")))", what.repeat(count));
        assert!(reason(&many("(memory 1)", 5)).contains("5 memories"));
        assert!(reason(&many("(table 1 funcref)", 9)).contains("9 tables"));
        look(&many("(memory 1)", 4)).expect("so many there may be");
        look(&many("(table 1 externref)", 8)).expect("so many there may be");
    }

    #[test]
    fn what_is_finished_of_webassembly_is_taken_and_what_is_not_is_named() {
        let command = |rest: &str| format!("(module {rest} (func (export \"_start\")))");
        for text in [
            "(tag $t) (func (block $h (try_table (catch_all $h) (throw $t))))",
            "(type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 5))))",
            "(func $f return_call $f)",
            "(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))",
            "(table 1 externref) (func (param externref) (table.set (i32.const 0) (local.get 0)))",
        ] {
            look(&command(text)).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
        }
        let legacy = "(tag $t) (func try throw $t catch_all end)";
        assert_eq!(look(&command(legacy)), Err(Refusal::LegacyExceptions));
        let atomic = "(memory 1) (func (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))";
        assert_eq!(look(&command(atomic)), Err(Refusal::Threads));
    }

    #[test]
    fn other_files_are_recognised() {
        assert_eq!(inspect(b""), Err(Refusal::Empty));
        assert_eq!(inspect(b"\n (module)"), Err(Refusal::Text));
        assert!(matches!(inspect(b"MZ\x90"), Err(Refusal::NotWasm { found: " but a program for Windows" })));
        assert!(matches!(inspect(b"\0asm\x01\0\0\0\xff"), Err(Refusal::Invalid { .. })));
    }
}
