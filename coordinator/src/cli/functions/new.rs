//! `lull func new`: a project that builds, with an input to try it on.

use std::path::{Path, PathBuf};

use clap::Args;
use lull_shared::{amount::quoted, hint};

use crate::cli::{
    Context,
    exit::{Exit, Failure, Outcome},
    functions::project::FILE,
    shown::output::Deed,
};

/// `lull func new`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull func new report --lang js\n  lull func new risk --lang rust")]
pub(crate) struct New {
    /// What the function is called, and its folder
    #[arg(value_name = "NAME", value_parser = crate::cli::typed::amount::function_name)]
    pub name: String,
    /// The language: rust, c or js
    #[arg(long, value_name = "LANGUAGE", value_parser = language)]
    pub lang: Language,
}

/// A language for which there is a template; each is built and run by a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    C,
    Js,
}

fn language(text: &str) -> Result<Language, String> {
    match text.to_ascii_lowercase().as_str() {
        "rust" => Ok(Language::Rust),
        "c" => Ok(Language::C),
        "js" | "javascript" => Ok(Language::Js),
        _ => Err(hint::with(
            &format!("there is no template for {}, only for rust, c and js", quoted(text)),
            "whatever has a toolchain for WASI can be a function: write lull.toml beside its source, with `name`, `build` (the \
             command) and `module` (what that makes); `lull func run` does the rest",
        )),
    }
}

/// What stands for the function's name in the templates.
const NAME: &str = "FUNCTION";

/// A file of a project, by its path and its text.
type Template = (&'static str, &'static str);

const GIT_IGNORE: &str = "/target/\n*.wasm\n";
const INPUT: &str = "the quick brown fox\njumps over the lazy dog\n";

impl Language {
    /// Its files; the manifest comes first.
    fn files(self) -> Vec<Template> {
        let own: &[Template] = match self {
            Self::Rust => &[
                (FILE, include_str!("templates/rust.toml")),
                ("Cargo.toml", include_str!("templates/Cargo.toml.txt")),
                ("src/main.rs", include_str!("templates/main.rs.txt")),
            ],
            Self::C => &[(FILE, include_str!("templates/c.toml")), ("main.c", include_str!("templates/main.c"))],
            Self::Js => &[(FILE, include_str!("templates/js.toml")), ("FUNCTION.js", include_str!("templates/main.js"))],
        };
        let mut files = own.to_vec();
        files.push(("input.txt", INPUT));
        if self != Self::Js {
            files.push((".gitignore", GIT_IGNORE));
        }
        files
    }
}

impl New {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let folder = PathBuf::from(&self.name);
        make(&folder, &self.name, self.lang)?;
        let name = &self.name;
        context.out.done(&Deed::new("made", name), format!(
            "{name}/ is a project: `cd {name}`, then `lull func run` builds it and runs it on input.txt, and `lull func publish` \
             publishes it"
        ))?;
        Ok(Exit::Succeeded)
    }
}

fn make(folder: &Path, name: &str, language: Language) -> Result<(), Failure> {
    if folder.exists() {
        let message = format!("there is something called {} here already", folder.display());
        return Err(Failure::usage(message).hint("choose another name, or remove it"));
    }
    for (path, text) in language.files() {
        let path = folder.join(path.replace(NAME, name));
        let unwritable = |error: std::io::Error| Failure::unwritable(&path, &error);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(unwritable)?;
        }
        std::fs::write(&path, text.replace(NAME, name)).map_err(unwritable)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::functions::project::Project;

    #[tokio::test]
    async fn every_language_makes_a_project_with_a_manifest_that_reads() {
        let folder = tempfile::tempdir().expect("a folder");
        for language in [Language::Rust, Language::C, Language::Js] {
            let path = folder.path().join(format!("{language:?}"));
            make(&path, "tally", language).expect("it is made");
            let project = Project::open(&path).await.unwrap_or_else(|failure| panic!("{language:?}: {failure}"));
            assert_eq!(project.name, "tally");
            let input = project.folder.join(project.input.as_ref().expect("an input"));
            assert!(input.is_file(), "{}", input.display());
            assert_eq!(project.build.is_none(), language == Language::Js);
            assert!(make(&path, "tally", language).is_err(), "it is there");
        }
    }

    #[test]
    fn a_language_without_a_template_is_refused_with_what_to_do_instead() {
        assert_eq!((language("Rust"), language("javascript")), (Ok(Language::Rust), Ok(Language::Js)));
        let refused = language("python").expect_err("there is no template");
        assert!(refused.contains("rust, c and js") && refused.contains("lull.toml"), "{refused}");
    }
}
