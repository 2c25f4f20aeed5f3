//! Publishing: take a module in, look at it, compile it for every platform of the fleet, sign, remember.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use futures::StreamExt as _;
use lull_agent::executor::{
    engine::{self, CompileOptions, Platform},
    inspect::{self, Inspection},
};
use lull_shared::{
    constraint::is_name,
    digest::BlobRef,
    identity::{Authority, Issuer, Signed, sign},
    limits::{MODULE_BYTES_MAX, NAME_BYTES_MAX},
    message::{Artifact, ModuleManifest},
};
use serde::Deserialize;

use super::{
    Interface, Shared,
    auth::{Asked, At, Publisher},
    blobs::{check_length, too_large},
    error::{Answer, Refused},
    shape,
};
use crate::{
    api::PublishedBody,
    clock,
    store::{
        Store,
        record::{NewVersion, SignManifest, VersionRecord},
    },
};

/// How long a publication waits for the one before it.
const TURN_MAX: Duration = Duration::from_secs(60);

/// Lines kept of what a module imports and exports: for people, who read no more.
const INTERFACE_LINES_MAX: usize = 256;

/// How the module is compiled.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    #[serde(default)]
    canonical_nans: bool,
}

/// `PUT /functions/{name}/versions`
pub async fn publish(
    State(state): Shared,
    caller: Publisher,
    At(name): At<String>,
    Asked(options): Asked<Options>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<PublishedBody>> {
    if !is_name(&name) {
        let hint = format!("use letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX}");
        return Err(Refused::invalid(format!("`{name}` cannot be a function's name"), Some(&hint)));
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
    let compile = move || compile(&bytes, options.canonical_nans, &platforms);
    let (inspected, artifacts) =
        tokio::task::spawn_blocking(compile).await.map_err(|_| Refused::unavailable("the module could not be compiled"))??;
    let artifacts = keep(&*state.coordinator.store, artifacts).await?;
    let manifest = ModuleManifest {
        function: name.clone(),
        number: 0,
        kind: inspected.kind,
        module,
        canonical_nans: options.canonical_nans,
        artifacts,
        migratable: None,
    };
    let version = NewVersion {
        function: name,
        kind: inspected.kind,
        module,
        canonical_nans: options.canonical_nans,
        sign: Arc::new(Signer { issuer: state.coordinator.issuer.clone(), manifest }),
        interface: interface(&inspected),
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

/// Looks at the module, then compiles it. Takes seconds of this thread for megabytes.
fn compile(bytes: &[u8], canonical_nans: bool, platforms: &BTreeSet<Platform>) -> Answer<(Inspection, Vec<Compiled>)> {
    let inspected = inspect::inspect(bytes).map_err(|error| refused(&error.to_string()))?;
    let mut artifacts = Vec::new();
    for platform in platforms {
        let options = CompileOptions { kind: inspected.kind, canonical_nans, platform: platform.clone() };
        let compiled = platform.engine().and_then(|engine| Ok((engine, engine::precompile(bytes, &options)?)));
        artifacts.push(compiled.map_err(|error| refused(&error.to_string()))?);
    }
    Ok((inspected, artifacts))
}

/// What people see of a module: what it wants and what it offers.
fn interface(inspected: &Inspection) -> Vec<String> {
    let imports = inspected.imports.iter().map(|import| format!("import {import}"));
    let exports = inspected.exports.iter().map(|export| format!("export {export}"));
    imports.chain(exports).take(INTERFACE_LINES_MAX).collect()
}

fn refused(reason: &str) -> Refused {
    let hint = "a function is a WASI command: build for wasm32-wasip1, or a component that exports wasi:cli/run";
    Refused::invalid(format!("no agent could run this module: {reason}"), Some(hint))
}

async fn keep(store: &dyn Store, compiled: Vec<Compiled>) -> Answer<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    for (engine, bytes) in compiled {
        let mut writer = store.begin_blob(bytes.len() as u64).await?;
        writer.write(&bytes).await?;
        artifacts.push(Artifact { engine, blob: writer.finish().await? });
    }
    Ok(artifacts)
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
