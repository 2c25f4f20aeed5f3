//! Runs one script as a function: QuickJS as an ordinary WASI command.
//!
//! The script is bound to this module at publish: the bodies of [`lull_script_length`] and [`lull_script_copy`] are replaced,
//! and the script becomes a data segment. Unbound it is a checker: it reads a script on standard input, whose name is its
//! argument, and says what is wrong with it.

mod native;
mod report;

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    process::ExitCode,
};

use rquickjs::{Context, Ctx, Function, Module, Object, Runtime, Value, loader::Loader, loader::Resolver, module::Declared};

/// What every script finds.
const PRELUDE: &str = include_str!("prelude.js");
/// How long the bound script is, with its name: none is bound yet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lull_script_length() -> usize {
    black_box(0)
}

/// Copies the bound script to `to`.
///
/// # Safety
/// There is room for [`lull_script_length`] bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn lull_script_copy(to: *mut u8) {
    // As far as the compiler can tell it writes: what is bound later does.
    for index in 0..black_box(0_usize) {
        // SAFETY: the caller's.
        unsafe { to.add(index).write_volatile(black_box(0)) };
    }
}

/// A script and what its author calls it.
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) source: String,
}

fn main() -> ExitCode {
    let length = lull_script_length();
    let (script, check) = if length == 0 {
        let name = std::env::args().nth(1).unwrap_or_else(|| "script.js".into());
        let mut source = Vec::new();
        if let Err(error) = std::io::stdin().read_to_end(&mut source) {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
        let Ok(source) = String::from_utf8(source) else {
            eprintln!("{name}: it is not UTF-8 text");
            return ExitCode::FAILURE;
        };
        (Script { name, source }, true)
    } else {
        let mut bound = vec![0; length];
        // SAFETY: it is as long.
        unsafe { lull_script_copy(bound.as_mut_ptr()) };
        let bound = String::from_utf8_lossy(&bound);
        let (name, source) = bound.split_once('\n').unwrap_or(("script.js", &bound));
        (Script { name: name.into(), source: source.into() }, false)
    };
    let ended = run(&script, check);
    let flushed = std::io::stdout().flush();
    match (ended, flushed) {
        (true, Ok(())) => ExitCode::SUCCESS,
        (_, Err(error)) => {
            eprintln!("{}: its output cannot be written: {error}", script.name);
            ExitCode::FAILURE
        }
        (false, Ok(())) => ExitCode::FAILURE,
    }
}

/// Whether all went well; else it was said.
fn run(script: &Script, check: bool) -> bool {
    let Ok(runtime) = Runtime::new() else {
        eprintln!("{}: out of memory", script.name);
        return false;
    };
    runtime.set_loader(Alone, Alone);
    let Ok(context) = Context::full(&runtime) else {
        eprintln!("{}: out of memory", script.name);
        return false;
    };
    context.with(|ctx| {
        let ended = if check { declare(&ctx, script).map(drop) } else { evaluate(&ctx, script) };
        let ended = native::finish().map_err(rquickjs::Error::Io).and(ended);
        let Err(error) = ended else { return true };
        report::say(&ctx, script, &error);
        false
    })
}

fn declare<'js>(ctx: &Ctx<'js>, script: &Script) -> rquickjs::Result<Module<'js, Declared>> {
    Module::declare(ctx.clone(), script.name.as_str(), script.source.as_str())
}

fn evaluate(ctx: &Ctx<'_>, script: &Script) -> rquickjs::Result<()> {
    let prelude: Function<'_> = ctx.eval(PRELUDE)?;
    let call: Function<'_> = prelude.call((native::object(ctx)?,))?;
    let (module, ended) = declare(ctx, script)?.eval()?;
    ended.finish::<Value<'_>>()?;
    let exports: Object<'_> = module.namespace()?;
    let result: Value<'_> = call.call((exports,))?;
    match result.as_promise() {
        Some(promise) => promise.finish::<Value<'_>>().map(drop),
        None => {
            // Whatever it began and did not wait for.
            while ctx.execute_pending_job() {}
            Ok(())
        }
    }
}

/// A function is one file.
struct Alone;

impl Resolver for Alone {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        _base: &str,
        name: &str,
        _attributes: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        let words = format!("it imports `{name}`, and a function is one file: bundle it first, as with esbuild --bundle --format=esm");
        Err(rquickjs::Exception::throw_reference(ctx, &words))
    }
}

impl Loader for Alone {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        Err(rquickjs::Exception::throw_reference(ctx, &format!("`{name}` cannot be loaded")))
    }
}
