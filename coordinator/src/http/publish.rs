//! Publishing: take a module in, look at it, compile it for every platform of the fleet, sign, remember.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use futures::StreamExt as _;
use lull_agent::{
    executor::{
        engine::{self, CompileOptions, Platform},
        inspect::{self, Inspection},
    },
    migratable,
};
use lull_shared::{
    constraint::is_name,
    digest::BlobRef,
    identity::{Authority, Issuer, Signed, sign},
    job::Moving,
    limits::{MODULE_BYTES_MAX, NAME_BYTES_MAX},
    message::{Artifact, MigratableBuild, ModuleManifest},
};

use super::{
    Interface, Shared,
    auth::{Asked, At, Publisher},
    blobs::{check_length, too_large},
    error::{Answer, Refused},
    shape,
};
use crate::{
    api::{PublishOptions, PublishedBody},
    clock,
    store::{
        Store,
        record::{NewVersion, SignManifest, VersionRecord},
    },
};

/// How long a publication waits for the one before it.
const TURN_MAX: Duration = Duration::from_secs(60);

/// What somebody may have measured a migratable build to cost, in percent of the plain build's time. Half of it is a
/// better guess of the optimizer's; a hundred times is a mistake.
const COST_PERCENT: RangeInclusive<u32> = 50..=10_000;

/// Lines kept of what a module imports and exports: for people, who read no more.
const INTERFACE_LINES_MAX: usize = 256;

/// `PUT /functions/{name}/versions`
pub async fn publish(
    State(state): Shared,
    caller: Publisher,
    At(name): At<String>,
    Asked(options): Asked<PublishOptions>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<PublishedBody>> {
    if !is_name(&name) {
        let hint = format!("use letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX}");
        return Err(Refused::invalid(format!("`{name}` cannot be a function's name"), Some(&hint)));
    }
    if let Some(percent) = options.cost_percent.filter(|percent| !COST_PERCENT.contains(percent)) {
        let (from, to) = COST_PERCENT.into_inner();
        let hint = format!("leave cost_percent out, or measure it: {from} to {to}");
        return Err(Refused::invalid(format!("no build takes {percent} % of another's time"), Some(&hint)));
    }
    check_length(&headers, MODULE_BYTES_MAX)?;
    let turn = tokio::time::timeout(TURN_MAX, state.publishing.acquire()).await;
    let Ok(Ok(_turn)) = turn else { return Err(Refused::busy("another module is being published")) };
    let (module, bytes) = take_in(&state, body).await?;
    let authority = Authority::of(&state.coordinator.issuer.authority);
    let answer =
        |version: VersionRecord, existing| Ok(Json(PublishedBody { function: shape::function(version, &authority), existing }));
    if let Some(version) = known(&state, &name, module, options.canonical_nans).await? {
        return answer(version, true);
    }
    let platforms = platforms(&state).await?;
    let compile = move || compile(&bytes, &options, &platforms);
    let made =
        tokio::task::spawn_blocking(compile).await.map_err(|_| Refused::unavailable("the module could not be compiled"))??;
    let store = &*state.coordinator.store;
    let artifacts = keep(store, made.plain).await?;
    let migratable = match made.migratable {
        Some(build) => Some(MigratableBuild {
            module: keep_one(store, &build.module).await?,
            artifacts: keep(store, build.compiled).await?,
            cost_percent: options.cost_percent,
        }),
        None => None,
    };
    let inspected = made.inspected;
    let manifest = ModuleManifest {
        function: name.clone(),
        number: 0,
        kind: inspected.kind,
        module,
        canonical_nans: options.canonical_nans,
        artifacts,
        migratable,
    };
    let version = NewVersion {
        function: name,
        kind: inspected.kind,
        module,
        canonical_nans: options.canonical_nans,
        sign: Arc::new(Signer { issuer: state.coordinator.issuer.clone(), manifest }),
        interface: interface(&inspected, made.not_movable.as_deref()),
        by: caller.name.clone(),
        at: clock::now(),
    };
    let (version, new) = state.coordinator.store.publish(state.coordinator.epoch, version).await?;
    answer(version, !new)
}

/// Stores the module as a blob and keeps it in memory, since the compiler needs it whole.
async fn take_in(state: &Interface, body: Body) -> Answer<(BlobRef, Vec<u8>)> {
    let mut writer = state.coordinator.store.begin_blob(MODULE_BYTES_MAX).await?;
    let mut bytes = Vec::new();
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Refused::invalid("the body ended early", Some("send it again")))?;
        if (bytes.len() + part.len()) as u64 > MODULE_BYTES_MAX {
            return Err(too_large(MODULE_BYTES_MAX));
        }
        bytes.extend_from_slice(&part);
        writer.write(&part).await?;
    }
    Ok((writer.finish().await?, bytes))
}

/// The version that this module is already under this name.
async fn known(state: &Interface, name: &str, module: BlobRef, canonical_nans: bool) -> Answer<Option<VersionRecord>> {
    let versions = state.coordinator.store.versions().await?;
    let same = |version: &VersionRecord| {
        version.function == name && version.module == module && version.canonical_nans == canonical_nans
    };
    Ok(versions.into_iter().find(same))
}

/// This machine's platform and those of all agents that this coordinator can compile for.
async fn platforms(state: &Interface) -> Answer<BTreeSet<Platform>> {
    let agents = state.coordinator.store.agents().await?;
    let engines = agents.iter().filter_map(|agent| agent.machine.as_ref()).map(|machine| machine.engine.as_str());
    Ok(engines.filter_map(Platform::of_engine).chain([Platform::host()]).collect())
}

/// A module compiled for one engine.
type Compiled = (String, Vec<u8>);

/// What publishing makes of a module.
struct Made {
    inspected: Inspection,
    plain: Vec<Compiled>,
    migratable: Option<Migratable>,
    /// Why there is no migratable build although one was to be made.
    not_movable: Option<String>,
}

struct Migratable {
    module: Vec<u8>,
    compiled: Vec<Compiled>,
}

/// Looks at the module, then compiles it. Takes seconds of this thread for megabytes.
fn compile(bytes: &[u8], options: &PublishOptions, platforms: &BTreeSet<Platform>) -> Answer<Made> {
    let inspected = inspect::inspect(bytes).map_err(|error| refused(&error.to_string()))?;
    let for_all = |module: &[u8]| -> Answer<Vec<Compiled>> {
        let compile = |platform: &Platform| {
            let (kind, canonical_nans) = (inspected.kind, options.canonical_nans);
            let options = CompileOptions { kind, canonical_nans, platform: platform.clone() };
            let compiled = platform.engine().and_then(|engine| Ok((engine, engine::precompile(module, &options)?)));
            compiled.map_err(|error| refused(&error.to_string()))
        };
        platforms.iter().map(compile).collect()
    };
    let rewritten = match options.migratable {
        Moving::Never => None,
        Moving::Auto | Moving::Always => Some(migratable::rewrite(bytes)),
    };
    let (migratable, not_movable) = match rewritten {
        None => (None, None),
        Some(Ok(build)) => (Some(Migratable { compiled: for_all(&build.module)?, module: build.module }), None),
        Some(Err(reason)) if options.migratable == Moving::Auto => (None, Some(reason.to_string())),
        Some(Err(reason)) => {
            let hint = "leave out --migratable=always to publish it all the same: its tasks then run where they began";
            return Err(Refused::invalid(format!("no build of this module can be moved: {reason}"), Some(hint)));
        }
    };
    Ok(Made { plain: for_all(bytes)?, migratable, not_movable, inspected })
}

/// What people see of a module: what it wants and what it offers, and what keeps it from being moved.
fn interface(inspected: &Inspection, not_movable: Option<&str>) -> Vec<String> {
    let imports = inspected.imports.iter().map(|import| format!("import {import}"));
    let exports = inspected.exports.iter().map(|export| format!("export {export}"));
    let hindrance = not_movable.map(|reason| format!("cannot be moved: {reason}"));
    hindrance.into_iter().chain(imports).chain(exports).take(INTERFACE_LINES_MAX).collect()
}

fn refused(reason: &str) -> Refused {
    let hint = "a function is a WASI command: build for wasm32-wasip1, or a component that exports wasi:cli/run";
    Refused::invalid(format!("no agent could run this module: {reason}"), Some(hint))
}

async fn keep(store: &dyn Store, compiled: Vec<Compiled>) -> Answer<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    for (engine, bytes) in compiled {
        artifacts.push(Artifact { engine, blob: keep_one(store, &bytes).await? });
    }
    Ok(artifacts)
}

async fn keep_one(store: &dyn Store, bytes: &[u8]) -> Answer<BlobRef> {
    let mut writer = store.begin_blob(bytes.len() as u64).await?;
    writer.write(bytes).await?;
    Ok(writer.finish().await?)
}

/// Signs a manifest with the network authority's key.
struct Signer {
    issuer: Arc<Issuer>,
    manifest: ModuleManifest,
}

impl SignManifest for Signer {
    fn sign(&self, number: u32) -> Signed {
        sign(&self.issuer.authority, &ModuleManifest { number, ..self.manifest.clone() })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}
