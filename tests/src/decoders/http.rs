//! The HTTP interface, as anybody may ask it.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use libp2p::identity::Keypair;
use lull_coordinator::{
    api::ErrorBody,
    keys,
    publishing::make::Making,
    server::{self, ADMIN_TOKEN_FILE, RunningServer, ServerConfig},
    store::{
        Lead, Store, StoreChoice,
        memory::Memory,
        record::{NewVersion, SignManifest},
    },
};
use lull_scheduler::Limits;
use lull_shared::{
    digest::BlobRef,
    identity::{Signed, sign},
    message::{ModuleKind, ModuleManifest},
    time::Timestamp,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A request: a line `METHOD PATH`, and all after it is the body. It is asked twice, first without a token.
///
/// Nobody without a token gets anything but `/health`. An administrator is answered in time, whatever was asked; a
/// refusal says so in its form, and none is the coordinator's own failure.
pub fn http(bytes: &[u8]) {
    let Some((line, body)) = split(bytes) else { return };
    let Some((method, path)) = line.split_once(' ') else { return };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let mut place = SITE.lock().unwrap_or_else(PoisonError::into_inner);
    if place.as_ref().is_some_and(|site| site.rested.elapsed() > REST_MAX) {
        *place = None;
    }
    let site = place.get_or_insert_with(Site::start);
    if site.ask(&method, path, body) == Outcome::Spent {
        *place = None;
    }
}

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    Some((std::str::from_utf8(&bytes[..end]).ok()?, bytes.get(end + 1..).unwrap_or(&[])))
}

/// Starting one takes much longer than a request.
static SITE: Mutex<Option<Site>> = Mutex::new(None);

/// Requests that one coordinator answers: it remembers what it is told, and memory is not what is tested here.
const REQUESTS_MAX: u32 = 512;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long those may take that wait on purpose.
const GLANCE: Duration = Duration::from_millis(5);
/// A coordinator only goes on while it is asked: one that stood still for longer may take its database for silent, as it should.
const REST_MAX: Duration = Duration::from_millis(500);
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// A coordinator over the store in memory.
struct Site {
    runtime: Runtime,
    routes: Router,
    token: String,
    asked: u32,
    /// When the last answer was given.
    rested: Instant,
    shutdown: CancellationToken,
    running: Option<RunningServer>,
    _folder: TempDir,
}

#[derive(PartialEq)]
enum Outcome {
    Answered,
    /// It is time for another coordinator.
    Spent,
}

impl Site {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let config = ServerConfig {
            data: folder.path().to_owned(),
            init: false,
            store: StoreChoice::Memory,
            listen: Vec::new(),
            http: ([127, 0, 0, 1], 0).into(),
            announce: Vec::new(),
            http_announce: None,
            http_hosts: Vec::new(),
            web: Default::default(),
            mdns: false,
            name: "test".into(),
            limits: Limits::default(),
            making: Making::default(),
            lease: Default::default(),
            store_wait: Default::default(),
        };
        let shutdown = CancellationToken::new();
        let store = Arc::new(Memory::default());
        let running = runtime.block_on(server::start_on(store.clone(), config, shutdown.clone())).expect("it starts");
        let routes = running.routes().expect("it leads: nobody shares its store");
        let token = fs::read_to_string(folder.path().join(ADMIN_TOKEN_FILE)).expect("a token").trim().to_owned();
        let authority = keys::key_pair(&folder.path().join(keys::AUTHORITY_FILE)).expect("a key");
        let mut site =
            Self { runtime, routes, token, asked: 0, rested: Instant::now(), shutdown, running: Some(running), _folder: folder };
        site.furnish(&*store, authority);
        site
    }

    /// A function and a job, so that paths lead somewhere. The function is put into the store: this program cannot be
    /// started as a compiler, so that nothing can be published in earnest.
    fn furnish(&mut self, store: &dyn Store, authority: Keypair) {
        let module = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").expect("a module");
        let publishing = async {
            let mut writer = store.begin_blob(module.len() as u64).await?;
            writer.write(&module).await?;
            let module = writer.finish().await?;
            let leader = store.leader().await?;
            let lead = Lead::new(leader.term, leader.holder.as_deref().expect("it leads"));
            store.publish(&lead, noop(module, authority)).await
        };
        self.runtime.block_on(publishing).expect("memory keeps everything");
        let job = br#"{"function":"noop","inputs":{"range":{"first":0,"count":3}}}"#;
        self.answer(&Method::POST, "/api/v1/jobs", job.to_vec(), true, PATIENCE).expect("in time");
    }

    fn ask(&mut self, method: &Method, path: &str, body: &[u8]) -> Outcome {
        self.asked += 1;
        let waits = path.contains("/wait") || path.contains("/events");
        let patience = if waits { GLANCE } else { PATIENCE };
        match self.answer(method, path, body.to_vec(), false, patience) {
            Err(Unanswered::Malformed) => return Outcome::Answered,
            Err(Unanswered::Late) => assert!(waits, "{method} {path} is not answered"),
            Ok((status, answer)) => {
                assert!(!status.is_success() || path.starts_with("/health"), "{method} {path} without a token: {status}");
                check(method, path, status, &answer);
            }
        }
        match self.answer(method, path, body.to_vec(), true, patience) {
            Ok((StatusCode::UNAUTHORIZED, _)) => return Outcome::Spent,
            Ok((status, answer)) => check(method, path, status, &answer),
            Err(Unanswered::Late) => assert!(waits, "{method} {path} is not answered"),
            Err(Unanswered::Malformed) => {}
        }
        self.rested = Instant::now();
        if self.asked < REQUESTS_MAX { Outcome::Answered } else { Outcome::Spent }
    }

    fn answer(
        &self,
        method: &Method,
        path: &str,
        body: Vec<u8>,
        authorized: bool,
        patience: Duration,
    ) -> Result<(StatusCode, Vec<u8>), Unanswered> {
        let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        if authorized {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        }
        let request = request.body(Body::from(body)).map_err(|_| Unanswered::Malformed)?;
        let answered = async {
            let response = self.routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
            let status = response.status();
            let bytes = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.expect("an answer of a bounded length");
            (status, bytes.to_vec())
        };
        self.runtime.block_on(async { tokio::time::timeout(patience, answered).await }).map_err(|_| Unanswered::Late)
    }
}

fn noop(module: BlobRef, authority: Keypair) -> NewVersion {
    NewVersion {
        function: "noop".into(),
        kind: ModuleKind::Preview1,
        module,
        canonical_nans: false,
        beyond: 0,
        sign: Arc::new(Signer { module, authority }),
        interface: vec!["export _start".into()],
        by: "ada".into(),
        at: Timestamp::from_millis(0),
    }
}

#[derive(Debug)]
struct Signer {
    module: BlobRef,
    authority: Keypair,
}

impl SignManifest for Signer {
    fn sign(&self, number: u32) -> Signed {
        let manifest = ModuleManifest {
            function: "noop".into(),
            number,
            kind: ModuleKind::Preview1,
            module: self.module,
            canonical_nans: false,
            artifacts: Vec::new(),
            migratable: None,
        };
        sign(&self.authority, &manifest)
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Unanswered {
    /// It is no request: a server never gets to see it.
    Malformed,
    Late,
}

fn check(method: &Method, path: &str, status: StatusCode, answer: &[u8]) {
    if status.is_success() || method == Method::HEAD {
        return;
    }
    let words = String::from_utf8_lossy(answer);
    // Pages are for people: whoever is not known is sent to sign in.
    let page = !path.starts_with("/api");
    if page && status == StatusCode::SEE_OTHER {
        return;
    }
    assert!(status.is_client_error(), "{method} {path}: {status} {words}");
    let error = serde_json::from_slice::<ErrorBody>(answer);
    assert!(error.is_ok_and(|body| !body.error.message.is_empty()), "{method} {path}: {status} {words}");
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            // It has nothing to lose.
            let _ = self.runtime.block_on(running.stopped());
        }
    }
}
