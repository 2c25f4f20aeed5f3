//! How the WebAssembly engine is configured: once, for whoever compiles and for whoever loads.
//!
//! A compiled artifact fits an engine only if both were configured alike, so nobody else builds a
//! [`wasmtime::Config`]. A [`Platform`] is what an artifact is made for; [`Platform::engine`] is its name as agents
//! report it and manifests carry it. Neither epochs nor fuel are compiled in: the operating system takes the
//! processor back (see [`crate::executor::handle::process`]).

use std::{fmt, hash::Hash as _, str::FromStr};

use crate::executor::protocol::Build;
use lull_shared::{digest::Digest, message::ModuleKind};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmFeatures};

/// Address space for each linear memory, so that 32-bit guests need no bounds checks.
const MEMORY_RESERVATION: u64 = 4 << 30;
/// Guard pages behind it: what a static offset can reach beyond the checked index.
const MEMORY_GUARD: u64 = 32 << 20;
/// Stack for guest code: a call of few values takes 48 bytes, a level of a parser of expressions 300, and a hundred
/// thousand of them are not too many. Only what is used of it is ever memory.
const STACK_BYTES: usize = 32 << 20;
/// The same for migratable builds. Their frames may also hold what is spilled at a suspension, so that what just fits in
/// the plain build fits here too. A run that was moved needs no more than it did before: of what was suspended only one
/// activation at a time is on this stack.
const MOVABLE_STACK_BYTES: usize = 2 * STACK_BYTES;
/// What host code takes on top of a guest's stack.
const HOST_STACK_BYTES: usize = 1 << 20;
/// Memory wiped in place between tasks instead of given back to the kernel. Where the kernel can say which pages
/// were written only those are wiped, so the bound may be generous.
const KEEP_RESIDENT_BYTES: usize = 4 << 20;
/// The same where every byte must be wiped: a megabyte would cost more than faulting a few pages in again.
const KEEP_RESIDENT_BLIND_BYTES: usize = 128 << 10;
/// Core instances, memories and tables of one component; toolchains emit two to ten.
const PARTS_OF_A_COMPONENT: u32 = 32;
/// Memories of a module. Toolchains emit one; each costs address space and nothing else.
pub(in crate::executor) const MEMORIES_OF_A_MODULE: u32 = 4;
/// Tables of a module. Toolchains emit one, and one more for references.
pub(in crate::executor) const TABLES_OF_A_MODULE: u32 = 8;
/// The collected heap of an attempt, which takes a place among the memories.
const COLLECTED_HEAPS: u32 = 1;

/// Entries of a table: a Python interpreter has 20,000 functions in its own. All tables' memory counts as the
/// executor's from the start, 8 bytes an entry, though little of it is ever touched: 36 MiB.
pub(in crate::executor) const fn table_elements(kind: ModuleKind) -> usize {
    match kind {
        ModuleKind::Preview1 => 1 << 19,
        ModuleKind::Component => 1 << 16,
    }
}

/// What a compiled artifact is made for: a processor, what it can be trusted to do, and an operating system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    arch: String,
    os: String,
    level: Level,
}

/// The instructions that compiled code may use. Few levels, so that few artifacts serve a whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What every processor of the architecture has.
    Base,
    /// x86-64-v3: AVX2, FMA and BMI, in most PCs since 2013.
    V3,
}

/// The flags of Cranelift that make up [`Level::V3`].
const V3_FLAGS: [&str; 12] = [
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_cmpxchg16b",
    "has_avx",
    "has_avx2",
    "has_fma",
    "has_bmi1",
    "has_bmi2",
    "has_lzcnt",
];

impl Platform {
    /// The machine that this process runs on.
    pub fn host() -> Self {
        Self { arch: std::env::consts::ARCH.into(), os: std::env::consts::OS.into(), level: host_level() }
    }

    /// The platform in an engine's name as an agent reports it, if it is one that can be compiled for.
    pub fn of_engine(engine: &str) -> Option<Self> {
        engine.split(' ').nth(1)?.parse().ok()
    }

    /// The name of the engine for this platform: equal names take each other's artifacts.
    ///
    /// It is made of the engine's version, the platform and everything that goes into compatibility, hashed.
    pub fn engine(&self) -> Result<String, EngineError> {
        let engine = compiling(self, false, false)?;
        let mut hasher = Collector::default();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(format!("wasmtime-48 {self} {}", Digest::of(&hasher.0).short()))
    }

    fn triple(&self) -> Option<&'static str> {
        Some(match (self.arch.as_str(), self.os.as_str()) {
            ("x86_64", "linux") => "x86_64-unknown-linux-gnu",
            ("x86_64", "windows") => "x86_64-pc-windows-msvc",
            ("x86_64", "macos") => "x86_64-apple-darwin",
            ("aarch64", "linux") => "aarch64-unknown-linux-gnu",
            ("aarch64", "windows") => "aarch64-pc-windows-msvc",
            ("aarch64", "macos") => "aarch64-apple-darwin",
            _ => return None,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Base => "base",
            Level::V3 => "v3",
        };
        write!(f, "{}-{}-{level}", self.arch, self.os)
    }
}

impl FromStr for Platform {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let unknown = || EngineError::Platform(text.to_owned());
        let mut parts = text.split('-');
        let (Some(arch), Some(os), Some(level), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(unknown());
        };
        let level = match level {
            "base" => Level::Base,
            "v3" if arch == "x86_64" => Level::V3,
            _ => return Err(unknown()),
        };
        let platform = Self { arch: arch.into(), os: os.into(), level };
        platform.triple().ok_or_else(unknown)?;
        Ok(platform)
    }
}

/// The engine cannot be set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("`{0}` is not a platform that functions can be compiled for")]
    Platform(String),
    #[error("the engine cannot be configured: {0:#}")]
    Config(wasmtime::Error),
    #[error("the module cannot be compiled: {0:#}")]
    Compile(wasmtime::Error),
}

/// The name of this machine's engine, for `Machine.engine`.
pub fn compatibility() -> Result<String, EngineError> {
    Platform::host().engine()
}

/// How a module is compiled.
#[derive(Debug, Clone)]
pub struct CompileOptions {
    pub kind: ModuleKind,
    pub canonical_nans: bool,
    pub platform: Platform,
}

/// Compiles a module on the calling thread: seconds for megabytes. Check it with [`crate::executor::code::inspect`] first. A stranger's
/// module is for [`crate::executor::code::compile`], in a process of its own.
pub fn precompile(module: &[u8], options: &CompileOptions) -> Result<Vec<u8>, EngineError> {
    precompile_on(module, options, 1)
}

/// The same on so many threads.
pub(in crate::executor) fn precompile_on(module: &[u8], options: &CompileOptions, threads: u16) -> Result<Vec<u8>, EngineError> {
    let engine = compiling(&options.platform, options.canonical_nans, threads > 1)?;
    match options.kind {
        ModuleKind::Preview1 => engine.precompile_module(module),
        ModuleKind::Component => engine.precompile_component(module),
    }
    .map_err(EngineError::Compile)
}

/// The proposals that guests may use: all that are finished, less those that agents do not offer.
///
/// Exceptions, collected references and tail calls are among them: C++, `setjmp` and the languages that compile to
/// collected types need them, and an instance that uses none of them pays nothing. Their price is more engine behind
/// the sandbox: the collector and the unwinder are host code that reads what a guest built. That is why only one
/// collector is built in, why the heap is a memory of the pool like any other, with its guard pages and under the
/// attempt's limit, and one more reason for the cage around the process. Memories that threads share stay out.
pub(in crate::executor) const FEATURES: WasmFeatures = WasmFeatures::WASM3
    .difference(WasmFeatures::THREADS)
    .difference(WasmFeatures::MEMORY64)
    .union(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::COMPONENT_MODEL);

/// What the engine itself takes beyond that: migratable builds poll their flag with an atomic load. A guest has been
/// refused before it comes here, and could do nothing with atomics but what it does without: no memory is shared.
const ENGINE_FEATURES: WasmFeatures = FEATURES.union(WasmFeatures::THREADS);

/// An engine that compiles for a platform and never runs anything.
fn compiling(platform: &Platform, canonical_nans: bool, parallel: bool) -> Result<Engine, EngineError> {
    let mut config = shared_config();
    let triple = platform.triple().ok_or_else(|| EngineError::Platform(platform.to_string()))?;
    config.target(triple).map_err(EngineError::Config)?;
    config.cranelift_nan_canonicalization(canonical_nans).cranelift_opt_level(OptLevel::Speed).parallel_compilation(parallel);
    // Migratable builds say which branches are hardly ever taken.
    config.wasm_branch_hinting(true);
    if platform.level == Level::V3 {
        for flag in V3_FLAGS {
            // SAFETY: the flags only widen the instructions used, and an engine refuses an artifact that uses what
            // its own processor lacks.
            unsafe { config.cranelift_flag_enable(flag) };
        }
    }
    Engine::new(&config).map_err(EngineError::Config)
}

/// An engine that runs one compiled module at a time and cannot compile.
pub(in crate::executor) fn running(kind: ModuleKind, build: Build) -> Result<Engine, EngineError> {
    let (instances, memories, tables) = match kind {
        ModuleKind::Preview1 => (1, MEMORIES_OF_A_MODULE, TABLES_OF_A_MODULE),
        ModuleKind::Component => (PARTS_OF_A_COMPONENT, PARTS_OF_A_COMPONENT, PARTS_OF_A_COMPONENT * 2),
    };
    let (memories, tables, stack_bytes) = match build {
        Build::Plain => (memories, tables, STACK_BYTES),
        // One more of each: the memory that it unwinds its stack into, and the table by which it comes back.
        Build::Migratable { .. } => (memories + 1, tables + 1, MOVABLE_STACK_BYTES),
    };
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(instances)
        .total_component_instances(1)
        .total_memories(memories + COLLECTED_HEAPS)
        .total_gc_heaps(COLLECTED_HEAPS)
        .total_tables(tables)
        .total_stacks(1)
        .max_core_instances_per_component(instances)
        .max_memories_per_component(memories)
        .max_tables_per_component(tables)
        .max_memories_per_module(memories)
        .max_tables_per_module(tables)
        .max_unused_warm_slots(memories + COLLECTED_HEAPS)
        .max_core_instance_size(64 << 20)
        .max_component_instance_size(64 << 20)
        .table_elements(table_elements(kind))
        .max_memory_size(MEMORY_RESERVATION as usize)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No })
        .linear_memory_keep_resident(if scan { KEEP_RESIDENT_BYTES } else { KEEP_RESIDENT_BLIND_BYTES })
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10);
    let mut config = shared_config();
    config.max_wasm_stack(stack_bytes).async_stack_size(stack_bytes + HOST_STACK_BYTES);
    config.enable_compiler(false).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(EngineError::Config)
}

/// Everything that an artifact and its engine must agree on.
fn shared_config() -> Config {
    let mut config = Config::new();
    config
        .relaxed_simd_deterministic(true)
        .wasm_features(ENGINE_FEATURES, true)
        .wasm_features(ENGINE_FEATURES.complement(), false)
        .shared_memory(false)
        // The engine's own choice in this release: it finds circles, which counting references never gives back, and
        // compiled code counts nothing. It pauses and uses half of its heap at a time; nobody waits for a batch
        // function's pauses.
        .collector(wasmtime::Collector::Copying)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_init_cow(true)
        .generate_address_map(false);
    config
}

#[cfg(target_arch = "x86_64")]
fn host_level() -> Level {
    let v3 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("cmpxchg16b");
    if v3 { Level::V3 } else { Level::Base }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_level() -> Level {
    Level::Base
}

/// Keeps what is hashed, so that a digest that is the same in every build can be made of it.
#[derive(Default)]
struct Collector(Vec<u8>);

impl std::hash::Hasher for Collector {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("only its bytes are asked for")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_name_tells_its_platform() {
        let host = Platform::host();
        let engine = compatibility().expect("this machine can be compiled for");
        assert_eq!(Platform::of_engine(&engine), Some(host));
        assert_eq!(engine, compatibility().expect("again"), "the name is stable");
    }

    #[test]
    fn every_platform_has_its_own_name_and_can_be_compiled_for_from_here() {
        let module = wat::parse_str("(module (func (export \"_start\")))").expect("it is valid text");
        let mut names = std::collections::BTreeSet::new();
        for text in ["x86_64-linux-base", "x86_64-linux-v3", "x86_64-windows-v3"] {
            if std::env::consts::ARCH != "x86_64" {
                return;
            }
            let platform: Platform = text.parse().expect("a known platform");
            assert!(names.insert(platform.engine().expect("it has a name")));
            let options = CompileOptions { kind: ModuleKind::Preview1, canonical_nans: true, platform };
            assert!(!precompile(&module, &options).expect("it compiles").is_empty());
        }
        assert!("sparc-plan9-base".parse::<Platform>().is_err());
        assert_eq!(Platform::of_engine("nonsense"), None);
    }
}
