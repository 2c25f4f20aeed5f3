//! Functions in JavaScript: a script and a runner, bound into one ordinary WASI command, so that nobody needs a toolchain.
//!
//! The runner is QuickJS with what scripts find (`coordinator/javascript`), built beforehand. What is published is one module
//! like any other: it is checked, compiled, moved and verified as those are, and any WASI runtime runs it.

mod bind;

use std::path::Path;

/// The runner without a script: given one on standard input it says what is wrong with it.
const RUNNER: &[u8] = include_bytes!("../../../javascript/runner.wasm");
/// The runner and the engine in it, as modules made with them say.
const VERSIONS: [(&str, &str); 2] = [(bind::PROCESSOR, "1.0.0"), ("QuickJS-ng", "0.16.2")];
/// A script is text that somebody wrote, or a bundle of such; data are inputs.
pub const SCRIPT_BYTES_MAX: usize = 8 << 20;

/// Endings of files that are scripts.
const SCRIPTS: [&str; 2] = ["js", "mjs"];
/// Those of what has to become one first.
const SOURCES: [&str; 5] = ["ts", "mts", "cts", "tsx", "jsx"];

/// One script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What its author calls it: errors name it.
    pub name: String,
    pub text: String,
}

/// A file that is no script, though it was taken for one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    #[error(
        "{name} is TypeScript or JSX, which nothing runs as it is\nhint: make JavaScript of it first: `npx esbuild {name} --bundle --format=esm --outfile={stem}.js`, and name {stem}.js"
    )]
    Source { name: String, stem: String },
    #[error(
        "{name} is a CommonJS module, and a function is an ES module\nhint: write `export default` in the place of `module.exports =`, and call it {stem}.js"
    )]
    CommonJs { name: String, stem: String },
    #[error("{name} is empty\nhint: `export default function (input) {{ return input.length; }}` is a whole function")]
    Empty { name: String },
    #[error("{name} is not UTF-8 text (at byte {at})\nhint: save it as UTF-8")]
    Text { name: String, at: usize },
    #[error("{name} has {}, and a script has {} at most\nhint: data belong into inputs, not into the script", bytesize::ByteSize(*size_bytes as u64), bytesize::ByteSize(SCRIPT_BYTES_MAX as u64))]
    Large { name: String, size_bytes: usize },
}

impl Script {
    /// Whether a file of this name is a script, or the source of one.
    pub fn is_named(path: &Path) -> bool {
        let ending = ending(path);
        SCRIPTS.iter().chain(&SOURCES).chain(&["cjs"]).any(|known| ending == *known)
    }

    /// The script in a file with this name and these bytes.
    pub fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, ScriptError> {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (name, stem) = (part(path.file_name()), part(path.file_stem()));
        let ending = ending(path);
        if SOURCES.contains(&ending.as_str()) {
            return Err(ScriptError::Source { name, stem });
        }
        if ending == "cjs" {
            return Err(ScriptError::CommonJs { name, stem });
        }
        if bytes.len() > SCRIPT_BYTES_MAX {
            return Err(ScriptError::Large { name, size_bytes: bytes.len() });
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Err(ScriptError::Text { name, at: error.utf8_error().valid_up_to() }),
        };
        if text.trim().is_empty() {
            return Err(ScriptError::Empty { name });
        }
        Ok(Self { name, text })
    }

    /// The script as a module. The same script under the same name is the same module, byte for byte.
    pub fn module(&self) -> Vec<u8> {
        bind::bind(RUNNER, &VERSIONS, &self.name, &self.text).expect("the runner is a module")
    }

    /// The script that a module was made of; none if it was made of something else.
    pub fn of_module(module: &[u8]) -> Option<Self> {
        let (name, text) = bind::unbind(module)?;
        Some(Self { name, text })
    }
}

/// A module that reads a script on standard input, whose name is its argument, and exits with success if it can be taken;
/// otherwise its log says why not.
pub fn checker() -> &'static [u8] {
    RUNNER
}

fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use lull_engine::executor::inspect;
    use lull_shared::message::ModuleKind;

    use super::*;

    fn script(name: &str, text: &str) -> Result<Script, ScriptError> {
        Script::new(Path::new(name), text.as_bytes().to_vec())
    }

    #[test]
    fn a_script_becomes_one_module_that_agents_take_and_says_what_made_it() {
        let script = script("folder/report.js", "export default (input) => input.length").expect("a script");
        let module = script.module();
        let found = inspect::inspect(&module).expect("agents take it");
        assert_eq!(found.kind, ModuleKind::Preview1);
        assert!(found.exports.contains(&"_start".to_owned()), "{:?}", found.exports);
        assert!(!found.exports.iter().any(|export| export.starts_with("lull")), "{:?}", found.exports);
        assert_eq!(found.makers, ["JavaScript", "lull-javascript 1.0.0", "QuickJS-ng 0.16.2"]);
        assert_eq!(module, script.module(), "the same bytes each time");
        assert_eq!(Script::of_module(&module), Some(Script { name: "report.js".into(), text: script.text }));
    }

    #[test]
    fn another_script_or_another_name_is_another_module_and_the_runner_alone_has_none() {
        let [one, other, named] =
            [("a.js", "1"), ("a.js", "2"), ("b.js", "1")].map(|(name, text)| script(name, text).expect("a script").module());
        assert!(one != other && one != named);
        assert_eq!(Script::of_module(RUNNER), None);
        assert_eq!(Script::of_module(b"no module"), None);
        assert!(inspect::inspect(checker()).is_ok());
    }

    #[test]
    fn the_runner_is_the_one_that_its_source_says() {
        let cargo = include_str!("../../../javascript/Cargo.toml");
        assert!(cargo.contains(&format!("version = \"{}\"", VERSIONS[0].1)), "its version is shown to people");
    }

    #[test]
    fn what_is_no_script_is_told_with_what_to_do() {
        let told = |name: &str, text: &str| script(name, text).expect_err(name).to_string();
        assert!(
            told("report.ts", "let x: number = 1").contains("npx esbuild report.ts --bundle --format=esm --outfile=report.js")
        );
        assert!(told("report.cjs", "module.exports = 1").contains("export default"));
        assert!(told("report.js", " \n").contains("is empty"));
        let large = Script::new(Path::new("a.js"), vec![b' '; SCRIPT_BYTES_MAX + 1]).expect_err("too large").to_string();
        assert!(large.contains("8.0 MiB at most"), "{large}");
        assert!(Script::new(Path::new("a.js"), vec![b'a', 0xff]).expect_err("no text").to_string().contains("at byte 1"));
        assert!(Script::is_named(Path::new("x/Report.JS")) && !Script::is_named(Path::new("report.wasm")));
    }
}
