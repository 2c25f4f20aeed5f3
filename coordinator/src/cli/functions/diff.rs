//! `lull func diff`: what two versions differ in.

use clap::Args;
use futures::TryStreamExt as _;
use lull_engine::executor::compile::MADE_WITH;
use lull_shared::limits::MODULE_BYTES_MAX;
use serde::Serialize;
use similar::TextDiff;

use crate::{
    api::FunctionBody,
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        shown::output::{Cell, Look, pairs, printable},
    },
    client::Client,
    publishing::javascript::Script,
    version::Named,
};

/// Lines around a change of a script.
const AROUND: usize = 3;

/// `lull func diff`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull func diff stats@1 stats@2\n  lull func diff report report@latest -o json")]
pub(crate) struct Diff {
    /// The older version
    #[arg(value_name = "NAME@VERSION", value_parser = super::func::named)]
    older: Named,
    /// The newer version
    #[arg(value_name = "NAME@VERSION", value_parser = super::func::named)]
    newer: Named,
}

/// What two versions differ in.
#[derive(Debug, Serialize)]
struct Differences {
    older: String,
    newer: String,
    changed: Vec<Change>,
    /// Imports, exports and tools that only the older one has, and only the newer one.
    removed: Vec<String>,
    added: Vec<String>,
    /// Of two scripts: their lines as a patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
}

/// One thing that is another in the newer version.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    what: &'static str,
    older: String,
    newer: String,
}

impl Diff {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let (older, newer) = (client.version(&self.older).await?, client.version(&self.newer).await?);
        let mut differences = compare(&older, &newer);
        if older.digest != newer.digest && is_script(&older) && is_script(&newer) {
            differences.script = scripts(&client, &older, &newer).await?;
        }
        let id = format!("{}..{}", differences.older, differences.newer);
        context.out.one(&differences, &id, |look| describe(&differences, look))?;
        Ok(Exit::Succeeded)
    }
}

fn compare(older: &FunctionBody, newer: &FunctionBody) -> Differences {
    let size = |function: &FunctionBody| bytesize::ByteSize(function.size_bytes).to_string();
    let nans =
        |function: &FunctionBody| if function.canonical_nans { "the same everywhere" } else { "as each processor makes them" };
    let kind = |function: &FunctionBody| super::func::kind(function).to_owned();
    let moves = |function: &FunctionBody| super::func::moves(function);
    let engines = |function: &FunctionBody| {
        let engines: Vec<&str> = function.artifacts.iter().map(|artifact| artifact.engine.as_str()).collect();
        engines.join(", ")
    };
    let all = [
        ("kind", kind(older), kind(newer)),
        ("digest", older.digest.to_string(), newer.digest.to_string()),
        ("size", size(older), size(newer)),
        ("NaNs", nans(older).into(), nans(newer).into()),
        ("compiled for", engines(older), engines(newer)),
        ("moving", moves(older), moves(newer)),
    ];
    let changed = all.into_iter().filter(|(_, older, newer)| older != newer);
    let changed = changed.map(|(what, older, newer)| Change { what, older, newer }).collect();
    let only = |in_this: &FunctionBody, not_in: &FunctionBody| {
        in_this.interface.iter().filter(|line| !not_in.interface.contains(line)).cloned().collect()
    };
    let (removed, added) = (only(older, newer), only(newer, older));
    Differences { older: older.called(), newer: newer.called(), changed, removed, added, script: None }
}

fn is_script(function: &FunctionBody) -> bool {
    function.interface.iter().any(|line| line.strip_prefix(MADE_WITH).is_some_and(|maker| maker == "JavaScript"))
}

/// The lines of two scripts as a patch; nothing if one of them is hidden.
async fn scripts(client: &Client, older: &FunctionBody, newer: &FunctionBody) -> Result<Option<String>, Failure> {
    let (Some(one), Some(other)) = (script(client, older).await?, script(client, newer).await?) else { return Ok(None) };
    let (from, to) = (format!("{} {}", older.called(), one.name), format!("{} {}", newer.called(), other.name));
    let diff = TextDiff::from_lines(&one.text, &other.text);
    Ok(Some(diff.unified_diff().context_radius(AROUND).header(&from, &to).to_string()))
}

async fn script(client: &Client, function: &FunctionBody) -> Result<Option<Script>, Failure> {
    let (mut module, pieces) = (Vec::new(), client.blob(&function.digest).await?);
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.try_next().await? {
        if (module.len() + piece.len()) as u64 > MODULE_BYTES_MAX {
            return Ok(None);
        }
        module.extend_from_slice(&piece);
    }
    Ok(Script::of_module(&module))
}

fn describe(differences: &Differences, look: &Look) -> String {
    let Differences { older, newer, changed, removed, added, script } = differences;
    if changed.is_empty() && removed.is_empty() && added.is_empty() {
        return format!("{older} and {newer} differ in nothing\n");
    }
    let told = |change: &Change| (change.what, Cell::from(format!("{} -> {}", change.older, change.newer)));
    let mut text = pairs(changed.iter().map(told).collect(), look);
    let lines = removed.iter().map(|line| ('-', line)).chain(added.iter().map(|line| ('+', line)));
    for (sign, line) in lines {
        text.push_str(&format!("{sign} {}\n", printable(line)));
    }
    if let Some(script) = script {
        text.push('\n');
        for line in script.lines() {
            text.push_str(&printable(line));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use lull_shared::{digest::BlobRef, id::VersionId, message::ModuleKind};

    use super::*;

    fn version(number: u32, content: &[u8], interface: &[&str]) -> FunctionBody {
        let blob = BlobRef::of(content);
        FunctionBody {
            function: "stats".into(),
            number,
            version: VersionId(number.into()),
            kind: ModuleKind::Preview1,
            digest: blob.digest,
            size_bytes: blob.size_bytes,
            canonical_nans: false,
            artifacts: Vec::new(),
            migratable: None,
            interface: interface.iter().map(|line| (*line).to_owned()).collect(),
            published: jiff::Timestamp::UNIX_EPOCH,
            published_by: "ada".into(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let (older, newer) = (version(1, b"1", &["import a", "import b"]), version(2, b"22", &["import b", "import c"]));
        let differences = compare(&older, &newer);
        let what: Vec<&str> = differences.changed.iter().map(|change| change.what).collect();
        assert_eq!(what, ["digest", "size"]);
        assert_eq!((differences.removed.join(","), differences.added.join(",")), ("import a".into(), "import c".into()));
        let options = compare(&older, &FunctionBody { canonical_nans: true, number: 3, ..older.clone() });
        assert_eq!(options.changed.len(), 1, "{:?}", options.changed);
        assert!(options.changed[0].what == "NaNs" && options.changed[0].newer == "the same everywhere");
        assert!(compare(&older, &older).changed.is_empty());
    }
}
