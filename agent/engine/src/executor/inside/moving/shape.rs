//! What a migratable build exports beside the function itself, as its compiled form says.

use wasmtime::{ExternType, FuncType, MemoryType, Module, Mutability, ValType};

use crate::{
    migratable::contract::{GLOBAL_PREFIX, MEMORY_PREFIX, RESTORED, RUN, STACK, STACK_PAGES_MAX, STACK_POINTER, STATE},
    snapshot::body::{GLOBALS_MAX, MEMORIES_MAX, STACK_BYTES_MAX},
};

const WASM_PAGE_BYTES: u64 = 64 << 10;

// A snapshot holds whatever the pass may spill.
const _: () = assert!(STACK_PAGES_MAX * WASM_PAGE_BYTES <= STACK_BYTES_MAX as u64);

/// What a build's exports are; all their types are as they must be.
pub(super) struct Shape {
    /// By number, ascending; so are the globals.
    pub(super) memories: Vec<u32>,
    pub(super) globals: Vec<u32>,
    /// Whether it wants to hear when it was restored.
    pub(super) restored: bool,
    /// The memory for its stack, in WebAssembly's pages: at the beginning, and at most.
    pub(super) stack_pages: u64,
    pub(super) stack_pages_max: u64,
}

impl Shape {
    /// The shape of a module, or what it lacks.
    pub(super) fn of(module: &Module) -> Result<Self, String> {
        let stack = match module.get_export(STACK) {
            Some(ExternType::Memory(stack)) => stack,
            _ => return Err(format!("it exports no memory `{STACK}`")),
        };
        let stack_pages_max =
            bounded(&stack).ok_or_else(|| format!("its `{STACK}` is not a 32-bit memory of at most 128 MiB"))?;
        for name in [STATE, STACK_POINTER] {
            let fits = |ty| matches!(ty, ExternType::Global(ty) if ty.mutability() == Mutability::Var && ty.content().is_i32());
            if !module.get_export(name).is_some_and(fits) {
                return Err(format!("it exports no number `{name}` that can be set"));
            }
        }
        if !module.get_export(RUN).is_some_and(|ty| is_plain_call(&ty)) {
            return Err(format!("it exports no function `{RUN}` without parameters and results"));
        }
        let restored = module.get_export(RESTORED);
        if restored.as_ref().is_some_and(|ty| !is_plain_call(ty)) {
            return Err(format!("its `{RESTORED}` is not a function without parameters and results"));
        }
        let (mut memories, mut globals) = (Vec::new(), Vec::new());
        for export in module.exports() {
            let number = |prefix: &str| export.name().strip_prefix(prefix)?.parse::<u32>().ok();
            let wrong = || format!("its `{}` cannot be written down", export.name());
            if let Some(number) = number(MEMORY_PREFIX) {
                let fits = matches!(export.ty(), ExternType::Memory(ty) if !ty.is_64() && !ty.is_shared());
                memories.push(fits.then_some(number).ok_or_else(wrong)?);
            }
            if let Some(number) = number(GLOBAL_PREFIX) {
                let fits = matches!(export.ty(), ExternType::Global(ty) if ty.mutability() == Mutability::Var
                    && (ty.content().is_num() || matches!(ty.content(), ValType::V128)));
                globals.push(fits.then_some(number).ok_or_else(wrong)?);
            }
        }
        if memories.len() > MEMORIES_MAX || globals.len() > GLOBALS_MAX {
            return Err(format!("it has more than {MEMORIES_MAX} memories or {GLOBALS_MAX} globals"));
        }
        memories.sort_unstable();
        globals.sort_unstable();
        Ok(Self { memories, globals, restored: restored.is_some(), stack_pages: stack.minimum(), stack_pages_max })
    }

    /// What its stack takes at the beginning, in bytes.
    pub(super) fn stack_bytes(&self) -> u64 {
        self.stack_pages * WASM_PAGE_BYTES
    }
}

/// The most pages of the memory for the stack, if that is as it must be.
fn bounded(stack: &MemoryType) -> Option<u64> {
    let plain = !stack.is_64() && !stack.is_shared() && stack.page_size() == WASM_PAGE_BYTES && stack.minimum() > 0;
    stack.maximum().filter(|pages| plain && *pages <= STACK_PAGES_MAX)
}

fn is_plain_call(ty: &ExternType) -> bool {
    matches!(ty, ExternType::Func(ty) if has_nothing(ty))
}

fn has_nothing(ty: &FuncType) -> bool {
    ty.params().len() == 0 && ty.results().len() == 0
}
