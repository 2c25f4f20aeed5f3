//! What is published already, and whether it is what is asked for.
//!
//! A version is one immutable module with what was made of it. Publishing the same module with other options is therefore
//! another version, unless an older one is just what the options ask for.

use lull_shared::{
    digest::BlobRef,
    identity::{Authority, verify},
    job::Moving,
    message::{Artifact, MigratableBuild, ModuleManifest},
};

use crate::{api::PublishOptions, store::record::VersionRecord};

/// What stands in a version's interface when it has no build that can be moved although one was to be made.
pub const NOT_MOVABLE: &str = "cannot be moved: ";

/// Measurements of one function differ by so much from day to day, in percent of each other.
const SAME_COST_PERCENT: u32 = 10;

/// Engines that one version has artifacts for: a fleet has a few platforms, each with the engine before and after an upgrade.
const ARTIFACTS_MAX: usize = 16;

/// A version of a module, with its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub record: VersionRecord,
    pub manifest: ModuleManifest,
}

impl Published {
    /// The versions of this module, newest first within their function.
    pub(super) fn of_module(
        versions: Vec<VersionRecord>,
        module: BlobRef,
        canonical_nans: bool,
        authority: &Authority,
    ) -> Vec<Self> {
        let same = |version: &VersionRecord| version.module == module && version.canonical_nans == canonical_nans;
        let read = |record: VersionRecord| Some(Self { manifest: verify(authority, &record.manifest).ok()?, record });
        versions.into_iter().filter(same).filter_map(read).collect()
    }

    /// Why it has no build that can be moved, if one was tried.
    pub(super) fn not_movable(&self) -> Option<&str> {
        self.record.interface.iter().find_map(|line| line.strip_prefix(NOT_MOVABLE))
    }

    /// Whether it is what these options ask for.
    pub(super) fn suits(&self, options: &PublishOptions) -> bool {
        match (&self.manifest.migratable, options.migratable) {
            (None, Moving::Never) => true,
            (None, Moving::Auto) => self.not_movable().is_some(),
            (None, Moving::Always) | (Some(_), Moving::Never) => false,
            (Some(build), Moving::Auto | Moving::Always) => same_cost(build.cost_percent, options.cost_percent),
        }
    }

    /// Whether all of it is compiled for all these engines: none of them has come since, or was upgraded.
    pub(super) fn is_complete(&self, engines: &[String]) -> bool {
        let movable = self.manifest.migratable.as_ref();
        covers(&self.manifest.artifacts, engines) && movable.is_none_or(|build| covers(&build.artifacts, engines))
    }

    /// What was made for these options, if all of it is here and for all these engines.
    pub(super) fn parts(&self, options: &PublishOptions, engines: &[String]) -> Option<Parts> {
        let complete = |made: &[Artifact]| covers(made, engines);
        let plain = self.manifest.artifacts.clone();
        let (migratable, not_movable) = match (&self.manifest.migratable, options.migratable) {
            (_, Moving::Never) => (None, None),
            (Some(build), Moving::Auto | Moving::Always) => {
                complete(&build.artifacts).then_some(())?;
                (Some(MigratableBuild { cost_percent: options.cost_percent.or(build.cost_percent), ..build.clone() }), None)
            }
            (None, Moving::Auto) => (None, Some(self.not_movable()?.to_owned())),
            (None, Moving::Always) => return None,
        };
        let interface = self.record.interface.iter().filter(|line| !line.starts_with(NOT_MOVABLE)).cloned().collect();
        complete(&plain).then_some(Parts { kind: self.record.kind, plain, migratable, not_movable, interface })
    }
}

/// Everything that a version consists of, in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub kind: lull_shared::message::ModuleKind,
    pub plain: Vec<Artifact>,
    pub migratable: Option<MigratableBuild>,
    /// Why there is none although one was to be made.
    pub not_movable: Option<String>,
    pub interface: Vec<String>,
}

impl Parts {
    /// Adds what an older version has for engines that nothing was compiled for now: agents that were not upgraded yet.
    pub(super) fn keep_older(&mut self, older: &Published) {
        add_missing(&mut self.plain, &older.manifest.artifacts);
        if let (Some(build), Some(known)) = (&mut self.migratable, &older.manifest.migratable)
            && build.module == known.module
        {
            add_missing(&mut build.artifacts, &known.artifacts);
        }
    }
}

fn covers(made: &[Artifact], engines: &[String]) -> bool {
    engines.iter().all(|engine| made.iter().any(|artifact| artifact.engine == *engine))
}

fn add_missing(made: &mut Vec<Artifact>, known: &[Artifact]) {
    for artifact in known {
        if made.len() < ARTIFACTS_MAX && !made.iter().any(|other| other.engine == artifact.engine) {
            made.push(artifact.clone());
        }
    }
}

/// What nobody measured again is as it was.
fn same_cost(known: Option<u32>, measured: Option<u32>) -> bool {
    match (known, measured) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(known), Some(measured)) => known.abs_diff(measured) * 100 <= SAME_COST_PERCENT * known.max(measured),
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{digest::Digest, id::VersionId, identity::Signed, message::ModuleKind, time::Timestamp};

    use super::*;

    fn published(build: Option<Option<u32>>, reason: Option<&str>) -> Published {
        let blob = BlobRef { digest: Digest::of(b"x"), size_bytes: 1 };
        let artifacts = vec![Artifact { engine: "e".into(), blob }];
        let migratable = build.map(|cost_percent| MigratableBuild { module: blob, artifacts: artifacts.clone(), cost_percent });
        let manifest = ModuleManifest {
            function: "f".into(),
            number: 1,
            kind: ModuleKind::Preview1,
            module: blob,
            canonical_nans: false,
            artifacts,
            migratable,
        };
        let record = VersionRecord {
            version: VersionId(1),
            function: "f".into(),
            number: 1,
            kind: ModuleKind::Preview1,
            module: blob,
            canonical_nans: false,
            manifest: Signed { body: Vec::new(), signature: Vec::new() },
            interface: reason.map(|reason| format!("{NOT_MOVABLE}{reason}")).into_iter().collect(),
            published: Timestamp::from_millis(0),
            published_by: "ann".into(),
            removed: None,
        };
        Published { record, manifest }
    }

    fn options(migratable: Moving, cost_percent: Option<u32>) -> PublishOptions {
        PublishOptions { canonical_nans: false, migratable, cost_percent }
    }

    #[test]
    fn a_version_suits_what_it_was_made_for_and_nothing_else() {
        use Moving::{Always, Auto, Never};
        let (plain, tried, both, measured) = (
            published(None, None),
            published(None, Some("threads")),
            published(Some(None), None),
            published(Some(Some(120)), None),
        );
        let asked = [(Never, None), (Auto, None), (Always, None), (Auto, Some(120)), (Always, Some(128)), (Auto, Some(150))];
        let suits = |version: &Published| asked.map(|(moving, cost)| version.suits(&options(moving, cost)));
        assert_eq!(suits(&plain), [true, false, false, false, false, false]);
        assert_eq!(suits(&tried), [true, true, false, true, false, true], "there is nothing to measure");
        assert_eq!(suits(&both), [false, true, true, false, false, false]);
        assert_eq!(suits(&measured), [false, true, true, true, true, false]);
    }

    #[test]
    fn what_an_upgrade_left_without_artifacts_is_not_complete_and_keeps_the_older_ones() {
        let both = published(Some(None), None);
        assert!(both.is_complete(&["e".into()]) && !both.is_complete(&["e".into(), "f".into()]));
        let mut fresh = both.parts(&options(Moving::Auto, None), &["e".into()]).expect("it is all there");
        let upgraded = |made: &mut Vec<Artifact>| made.iter_mut().for_each(|artifact| artifact.engine = "f".into());
        upgraded(&mut fresh.plain);
        fresh.migratable.iter_mut().for_each(|build| upgraded(&mut build.artifacts));
        fresh.keep_older(&both);
        let engines = |made: &[Artifact]| made.iter().map(|artifact| artifact.engine.clone()).collect::<Vec<_>>();
        assert_eq!(engines(&fresh.plain), ["f", "e"]);
        assert_eq!(fresh.migratable.map(|build| engines(&build.artifacts)), Some(vec!["f".into(), "e".into()]));
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let both = published(Some(Some(120)), None);
        let plain = both.parts(&options(Moving::Never, None), &["e".into()]).expect("it is all there");
        assert_eq!((plain.plain.len(), plain.migratable), (1, None));
        let measured = both.parts(&options(Moving::Auto, Some(150)), &["e".into()]).expect("only the measure is another");
        assert_eq!(measured.migratable.and_then(|build| build.cost_percent), Some(150));
        assert_eq!(both.parts(&options(Moving::Never, None), &["e".into(), "f".into()]), None, "a platform has come");
        assert_eq!(published(None, None).parts(&options(Moving::Auto, None), &["e".into()]), None, "it was never tried");
        let tried = published(None, Some("threads"));
        let parts = tried.parts(&options(Moving::Auto, None), &["e".into()]).expect("it was tried");
        assert_eq!((parts.not_movable.as_deref(), parts.interface.len()), (Some("threads"), 0));
        assert_eq!(tried.parts(&options(Moving::Always, None), &["e".into()]), None, "the refusal is said anew");
    }
}
