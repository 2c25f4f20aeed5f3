//! The interface as its clients meet it: a coordinator over the store in memory, real sockets, the real client.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use lull_shared::{
    digest::{BlobRef, PIECE_BYTES},
    id::{JobId, TaskId, TokenId},
    job::Moving,
    limits::INLINE_BYTES_MAX,
    pack::{Content, PackBuilder},
    state::{Intake, JobState, TaskState},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    api::*,
    cli::selector::JobName,
    client::{Client, ClientError, JobQuery},
    publishing::make::Making,
    server::{self, ADMIN_TOKEN_FILE, RunningServer, ServerConfig, tests::config},
    store::record::TokenRole,
};

pub(crate) struct Site {
    pub(crate) admin: Client,
    pub(crate) admin_token: String,
    pub(crate) running: RunningServer,
    shutdown: CancellationToken,
    _folder: TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// One that listens where others can connect, too.
    pub(super) async fn sealed() -> Self {
        Self::with(|config| ServerConfig { http: ([0, 0, 0, 0], 0).into(), ..config }).await
    }

    /// One that compiles within these limits.
    async fn making(making: Making) -> Self {
        Self::with(|config| ServerConfig { making, ..config }).await
    }

    async fn with(change: impl FnOnce(ServerConfig) -> ServerConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = change(config(folder.path(), "test"));
        let shutdown = CancellationToken::new();
        let running = server::start(config, shutdown.clone()).await.expect("it starts");
        let token = std::fs::read_to_string(folder.path().join(ADMIN_TOKEN_FILE)).expect("a token");
        let admin = client(&running, Some(token.clone()));
        Self { admin, admin_token: token.trim().to_owned(), running, shutdown, _folder: folder }
    }

    /// Somebody with a token of this role.
    pub(crate) async fn somebody(&self, role: TokenRole, name: &str) -> Client {
        let wanted = CreateToken { name: Some(name.into()), ..CreateToken::of(role) };
        client(&self.running, Some(self.admin.create_token(&wanted).await.expect("a token").text))
    }

    /// An administrator who has no connection yet.
    pub(crate) fn client_of_admin(&self) -> Client {
        client(&self.running, Some(self.admin_token.clone()))
    }

    pub(crate) async fn publish(&self) -> PublishedBody {
        publish(&self.admin, "noop", noop(), PublishOptions::default()).await.expect("published")
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.stopped().await.expect("it stops");
    }
}

/// Publishes and waits.
async fn publish(client: &Client, name: &str, module: Vec<u8>, options: PublishOptions) -> Result<PublishedBody, ClientError> {
    let module = client.upload(module).await?.digest;
    let begun = client.begin_publication(name, &PublishRequest { module, options }).await?;
    let ended = ended(client, begun).await?;
    match (ended.published, ended.error) {
        (Some(published), _) => Ok(published),
        (None, Some(detail)) => Err(ClientError::Refused { status: ended.status.expect("with an error"), detail }),
        (None, None) => panic!("{:?} says nothing", ended.state),
    }
}

async fn ended(client: &Client, mut publication: PublicationBody) -> Result<PublicationBody, ClientError> {
    while !publication.state.is_ended() {
        let wait = Duration::from_secs(10);
        publication = client.publication_after(publication.publication, publication.revision, wait).await?;
    }
    Ok(publication)
}

fn noop() -> Vec<u8> {
    wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").expect("a module")
}

fn client(running: &RunningServer, token: Option<String>) -> Client {
    Client::at(&running.address(), token).expect("an address")
}

/// A program with this token.
pub(crate) fn client_with(site: &Site, token: &str) -> Client {
    client(&site.running, Some(token.to_owned()))
}

fn array(function: &str, count: u32) -> SubmitRequest {
    SubmitRequest { function: function.into(), inputs: InputsBody::Range { first: 0, count }, ..SubmitRequest::default() }
}

fn status<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer.expect_err("a refusal") {
        ClientError::Refused { status, detail } => (status, detail.code),
        other => panic!("another error: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_valid_token_opens_anything_but_health() {
    let site = Site::start().await;
    let stranger = client(&site.running, None);
    assert_eq!(stranger.health().await.expect("healthy"), Health { status: HealthStatus::Ok });
    assert_eq!(status(stranger.status().await), (401, "unauthorized".into()));
    let forger = client(&site.running, Some(format!("lull_admin_{}", "0".repeat(32))));
    assert_eq!(status(forger.status().await), (401, "unauthorized".into()));
    let said = |answer: Result<(), ClientError>| format!("{:?}", answer.expect_err("a refusal"));
    let by_head = said(forger.has_blob(&BlobRef::of(b"x").digest).await.map(drop));
    assert_eq!(by_head, said(forger.status().await.map(drop)), "who asks by HEAD is told the same");
    let created = CreateToken::of(TokenRole::Viewer);
    let created = site.admin.create_token(&created).await.expect("a token");
    let viewer = client(&site.running, Some(created.text));
    viewer.status().await.expect("a viewer may look");
    site.admin.revoke_token(created.token.token, false).await.expect("revoked");
    assert_eq!(status(viewer.status().await), (401, "unauthorized".into()));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_its_own_and_no_more() {
    let site = Site::start().await;
    site.publish().await;
    let viewer = site.somebody(TokenRole::Viewer, "vera").await;
    let ann = site.somebody(TokenRole::Submitter, "ann").await;
    let bob = site.somebody(TokenRole::Submitter, "bob").await;
    assert_eq!(status(viewer.submit(&array("noop", 1)).await).0, 403);
    assert_eq!(status(viewer.upload("bytes").await).0, 403);
    assert_eq!(status(publish(&ann, "noop", noop(), PublishOptions::default()).await).0, 403);
    assert_eq!(status(ann.tokens().await).0, 403);
    assert_eq!(status(ann.set_intake("a1", Intake::Draining).await).0, 403);
    let job = ann.submit(&array("noop", 2)).await.expect("submitted").job;
    assert_eq!(status(bob.cancel(job).await).0, 403);
    assert_eq!(ann.cancel(job).await.expect("her own").affected, 2);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_carries_where_to_go_and_never_opens_the_interface() {
    let site = Site::start().await;
    let wanted = CreateToken { uses_max: Some(3), expires_s: Some(60), ..CreateToken::of(TokenRole::Agent) };
    let created = site.admin.create_token(&wanted).await.expect("a token");
    let join: lull_shared::identity::JoinToken = created.text.parse().expect("a join token");
    let network = site.admin.status().await.expect("a status").coordinator.network;
    assert_eq!((join.token, join.network.to_string()), (created.token.token.0, network));
    assert!(join.coordinators.iter().all(|address| address.contains("/p2p/")) && !join.coordinators.is_empty());
    assert_eq!(status(client(&site.running, Some(created.text)).status().await).0, 401);
    let wrong = CreateToken { uses_max: Some(1), ..CreateToken::of(TokenRole::Viewer) };
    assert_eq!(status(site.admin.create_token(&wrong).await), (400, "invalid".into()));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_no_agent_could_run_is_refused_with_the_reason() {
    let site = Site::start().await;
    let refused = publish(&site.admin, "bad", b"#!/bin/sh".to_vec(), PublishOptions::default()).await.expect_err("a script");
    let ClientError::Refused { status: 400, detail } = refused else { panic!("another error: {refused}") };
    assert!(detail.message.contains("script") && detail.hint.is_some(), "{detail:?}");
    assert_eq!(status(publish(&site.admin, "no/name", noop(), PublishOptions::default()).await).0, 400);
    assert!(site.admin.functions().await.expect("a list").items.is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_published_once_and_hidden_on_request() {
    let site = Site::start().await;
    let first = site.publish().await;
    assert!(!first.existing && first.function.called() == "noop@1" && !first.function.artifacts.is_empty());
    assert!(site.publish().await.existing, "the same module is the same version");
    let canonical = PublishOptions { canonical_nans: true, ..PublishOptions::default() };
    let second = publish(&site.admin, "noop", noop(), canonical).await.expect("other options");
    assert_eq!(second.function.called(), "noop@2");
    assert_eq!(site.admin.function("noop", None).await.expect("the newest").number, 2);
    assert_eq!(site.admin.remove_function("noop", Some(2)).await.expect("hidden").affected, 1);
    assert_eq!(site.admin.function("noop", None).await.expect("the one left").number, 1);
    assert_eq!(status(site.admin.submit(&array("noop@2", 1)).await).0, 404);
    assert_eq!(status(site.admin.remove_function("other", None).await).0, 404);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_stands_for_a_version_wherever_one_is_named_and_goes_back() {
    let site = Site::start().await;
    site.publish().await;
    let canonical = PublishOptions { canonical_nans: true, ..PublishOptions::default() };
    publish(&site.admin, "noop", noop(), canonical).await.expect("other options");
    let number = async |text: &str| site.admin.version(&text.parse().expect("a version")).await.map(|found| found.number);
    assert_eq!(number("noop").await.expect("the newest"), 2);
    assert_eq!(status(number("noop@stable").await), (404, "not_found".into()));
    assert_eq!(status(site.admin.roll_back("noop", "stable").await).0, 404);
    let promote = async |number| site.admin.promote("noop", "stable", number).await;
    assert_eq!(promote(1).await.map(|label| (label.number, label.before)).expect("promoted"), (1, None));
    assert_eq!(status(promote(9).await).0, 404);
    assert_eq!((number("noop").await.ok(), number("noop@latest").await.ok()), (Some(1), Some(2)));
    let list = site.admin.functions().await.expect("a list").items;
    assert_eq!(list.iter().map(|version| version.labels.len()).collect::<Vec<_>>(), [0, 1]);
    let version = async |text| site.admin.submit(&array(text, 1)).await.expect("submitted").function;
    assert_eq!((version("noop").await, version("noop@latest").await), ("noop@1".to_owned(), "noop@2".to_owned()));
    let kept = site.admin.submit(&array("noop@stable", 1)).await.expect("submitted").job;
    assert_eq!(promote(2).await.map(|label| label.before).expect("promoted"), Some(1));
    assert_eq!(site.admin.job(kept).await.expect("a job").job.function, "noop@1", "a job keeps its version");
    assert_eq!(status(site.admin.remove_function("noop", Some(2)).await).0, 409, "a label stands for it");
    let back = site.admin.roll_back("noop", "stable").await.expect("back");
    assert_eq!((back.number, back.before), (1, Some(2)));
    assert_eq!(status(site.admin.roll_back("noop", "stable").await).0, 409, "there is none before");
    let steps = site.admin.label("noop", "stable").await.expect("its steps").items;
    assert_eq!(steps.iter().map(|step| step.number).collect::<Vec<_>>(), [1, 2, 1]);
    let submitter = site.somebody(TokenRole::Submitter, "ann").await;
    assert_eq!(status(submitter.promote("noop", "stable", 2).await).0, 403);
    assert_eq!(status(site.admin.promote("noop", "last", 2).await).0, 400);
    site.stop().await;
}

/// A module that is small and takes so much the more to compile: one function with so many calls.
pub(crate) fn costly(calls: usize) -> Vec<u8> {
    let call = "(local.set 0 (i32.add (local.get 1) (call $f (local.get 0))))";
    let spin = "(loop $l (br_if $l (i32.eqz (local.get 0))))";
    let text = format!(
        "(module (memory (export \"memory\") 1) (func $f (param i32) (result i32) {spin} (local.get 0))
            (func (export \"_start\") (local i32 i32) {}))",
        call.repeat(calls)
    );
    wat::parse_str(text).expect("a module")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_same_joins_and_others_wait_or_stop_their_own() {
    let site = Site::start().await;
    let module = site.admin.upload(costly(12_000)).await.expect("stored").digest;
    let never = PublishOptions { migratable: Moving::Never, ..PublishOptions::default() };
    let request = |options| PublishRequest { module, options };
    let first = site.admin.begin_publication("slow", &request(never)).await.expect("begun");
    let joins = site.admin.begin_publication("slow", &request(never)).await.expect("joined");
    assert_eq!((first.joined, joins.joined, joins.publication), (false, true, first.publication));
    let ann = site.somebody(TokenRole::Publisher, "ann").await;
    let hers = ann.begin_publication("slow", &request(PublishOptions::default())).await.expect("begun");
    assert!(!hers.joined && hers.publication != first.publication, "other options");
    assert_eq!(site.admin.publications().await.expect("a list").items.len(), 2);
    let bob = site.somebody(TokenRole::Publisher, "bob").await;
    assert_eq!(status(bob.cancel_publication(hers.publication).await).0, 403);
    assert_eq!(ann.cancel_publication(hers.publication).await.expect("her own").affected, 1);
    assert_eq!(ended(&ann, hers).await.expect("an answer").state, PublicationState::Cancelled);
    let done = ended(&site.admin, first.clone()).await.expect("an answer");
    assert_eq!(done.published.as_ref().map(|made| made.function.called()).as_deref(), Some("slow@1"), "{done:?}");
    assert_eq!(site.admin.publication(first.publication).await.expect("remembered"), done);
    let again = site.admin.begin_publication("slow", &request(never)).await.expect("begun");
    assert!(!again.joined, "that one has ended");
    assert!(ended(&site.admin, again).await.expect("an answer").published.expect("it is there").existing);
    let forgotten = site.admin.publication(PublicationId(1)).await.expect_err("nobody knows it");
    assert!(forgotten.to_string().contains("started anew"), "{forgotten}");
    assert_eq!(status(site.admin.publication(PublicationId(1)).await), (404, "not_found".into()));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_too_costly_is_refused_or_published_plain_with_the_reason() {
    let site = Site::making(Making { memory_bytes: 128 << 20, ..Making::default() }).await;
    let refused = publish(&site.admin, "costly", costly(60_000), PublishOptions::default()).await.expect_err("it takes more");
    let ClientError::Refused { status: 400, detail } = refused else { panic!("another error: {refused}") };
    assert!(detail.message.contains("128.0 MiB of memory"), "{detail:?}");
    assert!(detail.hint.is_some_and(|hint| hint.contains("--compile-memory")));

    let plain = publish(&site.admin, "heavy", costly(4_000), PublishOptions::default()).await.expect("published");
    let function = &plain.function;
    assert!(function.migratable.is_none() && !function.artifacts.is_empty());
    let reason = function.interface.first().expect("a reason");
    let bound = ["of memory", "of processor time"].iter().any(|bound| reason.contains(bound));
    assert!(reason.starts_with("cannot be moved: ") && bound, "whichever is reached first: {reason}");
    let always = PublishOptions { migratable: Moving::Always, ..PublishOptions::default() };
    let refused = publish(&site.admin, "heavy", costly(4_000), always).await.expect_err("it was wanted");
    assert!(refused.to_string().contains("no build of this module can be moved"), "{refused}");
    assert!(publish(&site.admin, "heavy", costly(4_000), PublishOptions::default()).await.expect("found").existing);
    assert!(site.publish().await.function.migratable.is_some(), "the next one works");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_bounded_too() {
    let site = Site::making(Making { time: Duration::from_millis(1), ..Making::default() }).await;
    let refused = publish(&site.admin, "noop", noop(), PublishOptions::default()).await.expect_err("nothing is that fast");
    let ClientError::Refused { status: 400, detail } = refused else { panic!("another error: {refused}") };
    assert!(detail.message.contains("longer than 1ms"), "{detail:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_options_make_another_version_of_the_same_module() {
    let site = Site::start().await;
    let publish = async |migratable, cost_percent| {
        let options = PublishOptions { migratable, cost_percent, ..PublishOptions::default() };
        let published = publish(&site.admin, "noop", noop(), options).await.expect("published");
        (published.function.number, published.existing, published.same_module_as)
    };
    let other = |number: u32| Some(format!("noop@{number}"));
    assert_eq!(publish(Moving::Never, None).await, (1, false, None));
    assert_eq!(publish(Moving::Always, None).await, (2, false, other(1)));
    assert_eq!(publish(Moving::Never, None).await, (1, true, other(2)));
    assert_eq!(publish(Moving::Auto, None).await, (2, true, other(1)));
    assert_eq!(publish(Moving::Auto, Some(150)).await, (3, false, other(2)));
    assert_eq!(publish(Moving::Auto, Some(152)).await, (3, true, other(2)), "measures differ from day to day");
    assert_eq!(publish(Moving::Auto, None).await, (3, true, other(2)), "nobody asked for another measure");
    let builds = async |number| site.admin.function("noop", Some(number)).await.expect("a version").migratable;
    assert_eq!(builds(1).await, None);
    assert!(builds(2).await.is_some_and(|build| !build.measured));
    assert!(builds(3).await.is_some_and(|build| build.measured && build.cost_percent == 150));
    let never = |name| (name, PublishOptions { migratable: Moving::Never, ..PublishOptions::default() });
    let (name, options) = never("elsewhere");
    let elsewhere = super::tests::publish(&site.admin, name, noop(), options).await.expect("published");
    assert_eq!((elsewhere.function.number, elsewhere.existing, elsewhere.same_module_as), (1, false, None));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_back_as_they_went() {
    let site = Site::start().await;
    for size in [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 17] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let blob = BlobRef::of(&bytes);
        assert!(!site.admin.has_blob(&blob.digest).await.expect("an answer"));
        assert_eq!(BlobRef::from(site.admin.upload(bytes.clone()).await.expect("stored")), blob);
        assert!(site.admin.has_blob(&blob.digest).await.expect("an answer"));
        let parts = site.admin.blob(&blob.digest).await.expect("found");
        let back: Vec<bytes::Bytes> = parts.try_collect().await.expect("all of it");
        assert_eq!(back.concat(), bytes, "{size} bytes");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_says_everything_that_is_wrong_with_it() {
    let site = Site::start().await;
    site.publish().await;
    let wrong = SubmitRequest { retries: Some(1_000_000), memory_bytes: Some(0), ..array("noop", 0) };
    let refused = site.admin.submit(&wrong).await.expect_err("three mistakes");
    let words = refused.to_string();
    assert!(["`inputs` holds no task", "`retries`: ", "`memory_bytes`: "].iter().all(|part| words.contains(part)), "{words}");
    assert_eq!(status(site.admin.submit(&array("none", 1)).await).0, 404);
    assert_eq!(status(site.admin.submit(&array("noop@x", 1)).await).0, 404, "a label that is not there");
    assert_eq!(status(site.admin.submit(&array("noop@a b", 1)).await).0, 400, "no label at all");
    let after = AfterBody { job: JobId(77), condition: lull_shared::job::DependencyCondition::Ok };
    assert_eq!(status(site.admin.submit(&SubmitRequest { after: vec![after], ..array("noop", 1) }).await).0, 404);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_checked_to_its_last_row() {
    let site = Site::start().await;
    site.publish().await;
    let submit = async |pack: Vec<u8>| {
        let blob = site.admin.upload(pack).await.expect("stored");
        let inputs = InputsBody::Pack { digest: blob.digest, size_bytes: blob.size_bytes };
        site.admin.submit(&SubmitRequest { inputs, ..array("noop", 0) }).await
    };
    let large = vec![1; INLINE_BYTES_MAX + 1];
    let pack = |blob: BlobRef| {
        let mut pack = PackBuilder::default();
        pack.push("first", Content::Inline(b"1".as_slice()));
        pack.push("second", Content::Blob(blob));
        pack.finish()
    };
    let words = submit(pack(BlobRef::of(&large))).await.expect_err("a blob that is missing").to_string();
    assert!(words.contains("input 1"), "{words}");
    site.admin.upload(large.clone()).await.expect("stored");
    let job = submit(pack(BlobRef::of(&large))).await.expect("all is there");
    assert_eq!(job.tasks, 2);
    let tasks = site.admin.tasks(job.job, None, 0, 10).await.expect("tasks").items;
    let labels: Vec<_> = tasks.iter().map(|task| task.label.as_deref()).collect();
    assert_eq!(labels, [Some("first"), Some("second")]);
    let said = BlobRef { size_bytes: large.len() as u64 - 1, ..BlobRef::of(&large) };
    let words = submit(pack(said)).await.expect_err("an input of another size").to_string();
    assert!(words.contains("input 1 has 65537 bytes, not 65536"), "{words}");
    let whole = pack(BlobRef::of(&large));
    let size_bytes = whole.len() as u64 + 1;
    let inputs = InputsBody::Pack { digest: BlobRef::of(&whole).digest, size_bytes };
    let refused = site.admin.submit(&SubmitRequest { inputs, ..array("noop", 0) }).await.expect_err("a pack of another size");
    assert!(refused.to_string().contains(&format!("the input pack has {} bytes, not {size_bytes}", whole.len())), "{refused}");
    assert_eq!(status(submit(whole[..whole.len() - 8].to_vec()).await).0, 400, "cut short");
    assert_eq!(status(submit(b"no pack".to_vec()).await).0, 400);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_a_second_submission_the_same_job() {
    let site = Site::start().await;
    site.publish().await;
    let request = SubmitRequest { idempotency_key: Some("night-7".into()), ..array("noop", 3) };
    let first = site.admin.submit(&request).await.expect("submitted");
    let second = site.admin.submit(&request).await.expect("found");
    assert_eq!((first.existing, second.existing, first.job), (false, true, second.job));
    let other = site.somebody(TokenRole::Submitter, "ann").await;
    assert_ne!(other.submit(&request).await.expect("her own").job, first.job);
    let more = SubmitRequest { idempotency_key: Some("night-7".into()), ..array("noop", 100) };
    assert_eq!(status(site.admin.submit(&more).await), (409, "conflict".into()));
    site.admin.cancel(first.job).await.expect("cancelled");
    assert_eq!(status(site.admin.submit(&more).await).0, 409, "a job that has ended keeps its key");
    assert!(site.admin.submit(&request).await.expect("found").existing);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrators_own_token_is_revoked_only_when_that_is_meant() {
    let site = Site::start().await;
    let tokens = site.admin.tokens().await.expect("an answer").items;
    let [own] = &tokens[..] else { panic!("{tokens:?}") };
    assert!(own.own);
    assert_eq!(status(site.admin.revoke_token(own.token, false).await), (409, "conflict".into()));
    let other = site.admin.create_token(&CreateToken::of(TokenRole::Admin)).await.expect("a token");
    let second = client(&site.running, Some(other.text));
    assert_eq!(site.admin.revoke_token(other.token.token, false).await.expect("another's").affected, 1);
    assert_eq!(site.admin.revoke_token(other.token.token, false).await.expect("already").affected, 0);
    assert_eq!(status(second.status().await).0, 401);
    assert_eq!(site.admin.revoke_token(own.token, true).await.expect("it is meant").affected, 1);
    assert_eq!(status(site.admin.status().await).0, 401);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_job_is_the_callers_own() {
    let site = Site::start().await;
    site.publish().await;
    let ann = site.somebody(TokenRole::Submitter, "ann").await;
    assert_eq!(JobName::Last.find(&ann).await.expect_err("none yet").exit.code(), 3);
    let hers = ann.submit(&array("noop", 1)).await.expect("submitted").job;
    let others = site.admin.submit(&array("noop", 1)).await.expect("submitted").job;
    assert_eq!(JobName::Last.find(&ann).await.expect("her own"), hers);
    assert_eq!(JobName::Last.find(&site.admin).await.expect("his own"), others);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_names_a_machine_that_is_not_there_is_told() {
    let site = Site::start().await;
    site.publish().await;
    let require = |text: &str| SubmitRequest { require: vec![Text(text.parse().expect("a condition"))], ..array("noop", 1) };
    for (asked, told) in [("name=desk-99", 1), ("name!=desk-99", 0), ("site=berlin", 0)] {
        let submitted = site.admin.submit(&require(asked)).await.expect("submitted");
        assert_eq!(submitted.warnings.len(), told, "{asked}: {:?}", submitted.warnings);
        assert!(submitted.warnings.iter().all(|words| words.contains("desk-99")), "{:?}", submitted.warnings);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_refused_in_words_or_given_a_new_moment() {
    let site = Site::start().await;
    site.publish().await;
    let first = site.admin.submit(&array("noop", 1)).await.expect("submitted").job;
    let after = vec![AfterBody { job: first, condition: lull_shared::job::DependencyCondition::Ok }];
    let second = site.admin.submit(&SubmitRequest { after, ..array("noop", 1) }).await.expect("submitted").job;
    site.admin.cancel(first).await.expect("cancelled");
    let plain = RetryRequest::default();
    assert_eq!(status(site.admin.retry(second, &plain).await).0, 409, "what it waits for did not succeed");
    site.admin.retry(first, &plain).await.expect("it is retried");
    site.admin.retry(second, &plain).await.expect("it may succeed now");

    // Over soon; on a machine that is so slow that it is over before it is taken, a little later.
    let mut finish_in_ms = 50;
    let expired = loop {
        let soon = SubmitRequest { finish_in_ms: Some(finish_in_ms), ..array("noop", 1) };
        match site.admin.submit(&soon).await {
            Ok(submitted) => break submitted.job,
            Err(refused) => assert_eq!(status::<()>(Err(refused)), (400, "invalid".into())),
        }
        finish_in_ms *= 2;
    };
    let ended = async || {
        let job = site.admin.wait(expired, Duration::from_secs(30)).await.expect("an answer");
        job.state.is_ended().then_some(job.state)
    };
    let state = loop {
        if let Some(state) = ended().await {
            break state;
        }
    };
    assert_eq!(state, JobState::Expired);
    assert_eq!(status(site.admin.retry(expired, &plain).await).0, 409);
    let finish_by = jiff::Timestamp::now() + Duration::from_secs(3_600);
    site.admin.retry(expired, &RetryRequest { finish_by: Some(finish_by) }).await.expect("it is retried");
    let terms = site.admin.job(expired).await.expect("the job").terms;
    assert_eq!(terms.finish_by.map(|at| at.as_microsecond()), Some(finish_by.as_microsecond()));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_job_and_events_tell_the_way() {
    let site = Site::start().await;
    site.publish().await;
    let job = site.admin.submit(&array("noop", 5)).await.expect("submitted").job;
    let waited = site.admin.wait(job, Duration::from_secs(1)).await.expect("as it stands");
    assert_eq!((waited.state, waited.counts.queued), (JobState::Active, 5));
    let mut events = Box::pin(site.admin.events(job).await.expect("events"));
    let first = events.next().await.expect("one").expect("the job as it is");
    assert_eq!(first.state, JobState::Active);
    let waiter = site.admin.clone();
    let waiting = tokio::spawn(async move { waiter.wait(job, Duration::from_secs(60)).await });
    assert_eq!(site.admin.cancel(job).await.expect("cancelled").affected, 5);
    assert_eq!(waiting.await.expect("no panic").expect("an answer").state, JobState::Cancelled);
    let rest: Vec<JobBody> = events.try_collect().await.expect("the stream ends");
    let last = rest.last().expect("the end");
    assert_eq!((last.state, last.counts.cancelled), (JobState::Cancelled, 5));
    assert_eq!(status(site.admin.cancel(job).await), (409, "conflict".into()));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_parts_that_join_up() {
    let site = Site::start().await;
    site.publish().await;
    for _ in 0..5 {
        site.admin.submit(&array("noop", 7)).await.expect("submitted");
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = site.admin.jobs(&JobQuery { limit: Some(2), before, ..JobQuery::default() }).await.expect("a part");
        seen.extend(page.items.iter().map(|job| job.job.0));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
    let (mut tasks, mut from) = (Vec::new(), Some(0));
    while let Some(index) = from {
        let page = site.admin.tasks(JobId(1), Some(TaskState::Queued), index, 3).await.expect("a part");
        tasks.extend(page.items.iter().map(|task| task.task.index));
        from = page.next.and_then(|next| next.parse().ok());
    }
    assert_eq!(tasks, (0..7).collect::<Vec<_>>());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_jobs_shows_what_only_the_scheduler_knows_of_those_that_are_active() {
    let site = Site::start().await;
    site.publish().await;
    let first = site.admin.submit(&array("noop", 2)).await.expect("submitted").job;
    let after = vec![AfterBody { job: first, condition: lull_shared::job::DependencyCondition::Any }];
    site.admin.submit(&SubmitRequest { after, ..array("noop", 3) }).await.expect("submitted");
    let ended = site.admin.submit(&array("noop", 4)).await.expect("submitted").job;
    site.admin.cancel(ended).await.expect("cancelled");
    let jobs = site.admin.jobs(&JobQuery::default()).await.expect("an answer").items;
    let shown: Vec<_> = jobs.iter().map(|job| (job.state, job.counts.waiting, job.counts.queued, job.counts.cancelled)).collect();
    let expected = [(JobState::Cancelled, 0, 0, 4), (JobState::Active, 3, 0, 0), (JobState::Active, 0, 2, 0)];
    assert_eq!(shown, expected, "a store does not tell what waits from what is queued");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_stands_alike_wherever_one_looks() {
    let site = Site::start().await;
    site.publish().await;
    let first = site.admin.submit(&array("noop", 2)).await.expect("submitted").job;
    let after = vec![AfterBody { job: first, condition: lull_shared::job::DependencyCondition::Any }];
    let held_back = site.admin.submit(&SubmitRequest { after, ..array("noop", 5) }).await.expect("submitted").job;
    for (job, tasks, state, other) in
        [(first, 2, TaskState::Queued, TaskState::Waiting), (held_back, 5, TaskState::Waiting, TaskState::Queued)]
    {
        assert_eq!(site.admin.job(job).await.expect("there").job.counts.get(state), tasks);
        let task = TaskId { job, index: 1 };
        assert_eq!(site.admin.task(task).await.expect("there").task.state, state);
        assert_eq!(site.admin.explain(task).await.expect("there").state, state);
        let all = site.admin.tasks(job, None, 0, 10).await.expect("a list").items;
        assert!(all.len() == tasks as usize && all.iter().all(|task| task.state == state), "{all:?}");
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(index) = from {
            let page = site.admin.tasks(job, Some(state), index, 2).await.expect("a part");
            found.extend(page.items.iter().map(|task| task.task.index));
            from = page.next.and_then(|next| next.parse().ok());
        }
        assert_eq!(found, (0..tasks).collect::<Vec<_>>());
        let none = site.admin.tasks(job, Some(other), 0, 10).await.expect("a list");
        assert_eq!((none.items.len(), none.next), (0, None));
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_job_waits_for_is_named() {
    let site = Site::start().await;
    site.publish().await;
    let mut after = Vec::new();
    for _ in 0..6 {
        let job = site.admin.submit(&array("noop", 1)).await.expect("submitted").job;
        after.push(AfterBody { job, condition: lull_shared::job::DependencyCondition::Any });
    }
    let waits = async |after: &[AfterBody]| {
        let request = SubmitRequest { after: after.to_vec(), ..array("noop", 1) };
        let job = site.admin.submit(&request).await.expect("submitted").job;
        (site.admin.explain_job(job).await.expect("there").summary, site.admin.explain(TaskId { job, index: 0 }).await)
    };
    let (summary, task) = waits(&after[..2]).await;
    assert_eq!(summary, "no agent has joined yet; the job waits for j1 and j2 to end");
    assert_eq!(task.expect("there").waiting.expect("a reason").message, "the job waits for j1 and j2 to end");
    assert!(waits(&after).await.0.ends_with("the job waits for j1, j2, j3, j4 and 2 more to end"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_retry_is_told_of_the_first() {
    let site = Site::start().await;
    site.publish().await;
    let job = site.admin.submit(&array("noop", 3)).await.expect("submitted").job;
    site.admin.cancel(job).await.expect("cancelled");
    let plain = RetryRequest::default();
    let (one, other) = tokio::join!(site.admin.retry(job, &plain), site.admin.retry(job, &plain));
    let (done, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(done.expect("one of them").affected, 3);
    let Err(ClientError::Refused { status: 409, detail }) = refused else { panic!("{refused:?}") };
    assert_eq!(detail.message, format!("{job} was let run again already, and no task of it has ended badly since"));
    assert!(detail.hint.is_some_and(|hint| hint.contains(&format!("`lull wait {job}`"))));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_cannot_run_explains_itself_and_has_no_output_yet() {
    let site = Site::start().await;
    site.publish().await;
    let job = site.admin.submit(&array("noop", 1)).await.expect("submitted").job;
    let task = TaskId { job, index: 0 };
    let explanation = site.admin.explain(task).await.expect("an explanation");
    assert_eq!((explanation.state, explanation.agents.len()), (TaskState::Queued, 0));
    let output = site.admin.output(task).await.map(drop);
    assert_eq!(status(output).0, 404);
    assert_eq!(status(site.admin.log(task, None).await).0, 404);
    assert_eq!(status(site.admin.task(TaskId { job, index: 9 }).await).0, 404);
    assert_eq!(site.admin.task(task).await.expect("there").history, Vec::new());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_in_the_same_form() {
    let site = Site::start().await;
    let http = reqwest::Client::new();
    let token = std::fs::read_to_string(site._folder.path().join(ADMIN_TOKEN_FILE)).expect("a token");
    let base = site.admin.base().to_owned();
    for (path, expected, told) in [
        ("/nothing", 404, "nothing at this path"),
        ("/api/v1/nothing", 404, "nothing at this path"),
        ("/api/v1/jobs/x", 400, "`x` is not a job"),
        ("/api/v1/jobs/j1/tasks/x", 400, "`index`: `x` is not a whole number"),
        ("/api/v1/blobs/abc", 400, "`digest`: `abc` is not a digest"),
        ("/api/v1/jobs?limit=x", 400, "`limit`: "),
        ("/api/v1/jobs?limit=-1", 400, "`limit`: "),
        ("/api/v1/jobs?limits=1", 400, "there is no parameter `limits`"),
        ("/api/v1/jobs?state=done", 400, "`done` is not one of its values"),
        ("/api/v1/jobs?limit=1001", 400, "`limit`: `1001` is more than 1,000"),
        ("/api/v1/audit?limit=0", 400, "`limit`: `0` is less than 1"),
        ("/api/v1/jobs/j1/results?limit=257", 400, "`limit`: `257` is more than 256"),
        ("/api/v1/jobs?mine=yes", 400, "`mine`: "),
        ("/api/v1/jobs?before=x", 400, "`x` is not a job"),
        ("/api/v1/agents/a9/policy?at=noon", 400, "`at`: `noon` is not a moment of the week"),
        ("/api/v1/agents/a9/policy?at=mon%2014:00", 404, "a9"),
    ] {
        let answer = http.get(format!("{base}{path}")).bearer_auth(token.trim()).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected, "{path}");
        let body: ErrorBody = answer.json().await.expect("an error in its form");
        assert_eq!(body.error.message, body.error.message.to_lowercase(), "{path}");
        assert!(body.error.message.contains(told) && body.error.hint.is_some(), "{path}: {body:?}");
    }
    let answer = http.post(format!("{base}/api/v1/jobs")).bearer_auth(token.trim()).body("{").send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 400, "no JSON");
    let body: ErrorBody = answer.json().await.expect("an error in its form");
    assert!(body.error.hint.is_some_and(|hint| hint.contains("content-type: application/json")));
    let answer = http.put(format!("{base}/api/v1/jobs")).bearer_auth(token.trim()).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 405);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_streams_at_once() {
    let site = Site::start().await;
    site.publish().await;
    let job = site.admin.submit(&array("noop", 1)).await.expect("submitted").job;
    let mut events = Box::pin(site.admin.events(job).await.expect("events"));
    events.next().await.expect("one").expect("the job as it is");
    let started = std::time::Instant::now();
    site.stop().await;
    assert!(started.elapsed() < Duration::from_secs(4), "it took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_are_two_people_whatever_they_are_called() {
    let site = Site::start().await;
    site.publish().await;
    let made = async || site.admin.create_token(&CreateToken::of(TokenRole::Submitter)).await.expect("a token");
    let (ann, bob) = (made().await, made().await);
    assert_eq!((ann.token.name.as_str(), bob.token.name.as_str()), ("t2", "t3"), "whom nobody named is called by the number");
    let [ann, bob] = [ann, bob].map(|token| client(&site.running, Some(token.text)));
    let keyed = |count| SubmitRequest { idempotency_key: Some("k".into()), ..array("noop", count) };
    let (first, second) = (ann.submit(&keyed(1)).await.expect("taken"), bob.submit(&keyed(5)).await.expect("taken"));
    assert_ne!(first.job, second.job, "keys are not shared");
    assert!(ann.submit(&keyed(1)).await.expect("found").existing);
    let job = ann.submit(&array("noop", 10)).await.expect("taken").job;
    assert_eq!(status(bob.cancel(job).await), (403, "denied".into()));
    assert!(ann.cancel(job).await.is_ok());
    let body = site.admin.job(job).await.expect("an answer");
    assert_eq!((body.job.submitter.as_str(), body.job.owner), ("t2", Some(TokenId(2))));
    let mine = bob.jobs(&JobQuery { mine: Some(true), ..JobQuery::default() }).await.expect("an answer").items;
    assert_eq!(mine.iter().map(|job| job.job).collect::<Vec<_>>(), [second.job]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_tokens_are_unique_and_neither_ids_nor_reserved_words() {
    let site = Site::start().await;
    let named = |name: &str| CreateToken { name: Some(name.into()), ..CreateToken::of(TokenRole::Submitter) };
    for name in ["admin", "Admin", "system", "lull", "finish_by", "a1", "t2", "7", "last"] {
        assert_eq!(status(site.admin.create_token(&named(name)).await), (400, "invalid".into()), "{name}");
    }
    let ann = site.admin.create_token(&named("ann")).await.expect("a token").token.token;
    for name in ["ann", "ANN"] {
        assert_eq!(status(site.admin.create_token(&named(name)).await), (409, "conflict".into()), "{name}");
    }
    site.admin.revoke_token(ann, false).await.expect("revoked");
    let again = site.admin.create_token(&named("ann")).await.expect("the name is free again");
    client(&site.running, Some(again.text)).status().await.expect("an answer");
    let audit = site.admin.audit(1).await.expect("an answer").items;
    assert_eq!(audit[0].by, "admin (t1)", "the audit shows name and id");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_certain_machines_says_so_and_no_other_role_can_have_it() {
    let site = Site::start().await;
    let bound = |role| CreateToken { names: vec!["lab-*".into()], group: Some("lab".into()), ..CreateToken::of(role) };
    let made = site.admin.create_token(&bound(TokenRole::Agent)).await.expect("a token").token;
    assert_eq!((made.names, made.group.as_deref()), (vec!["lab-*".to_owned()], Some("lab")));
    assert_eq!(status(site.admin.create_token(&bound(TokenRole::Viewer)).await), (400, "invalid".into()));
    let wrong = CreateToken { names: vec!["a1".into()], ..CreateToken::of(TokenRole::Agent) };
    assert_eq!(status(site.admin.create_token(&wrong).await), (400, "invalid".into()));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_and_is_used_within_bounds_and_a_join_token_never_for_ever() {
    const LONGEST_S: u64 = 10 * 365 * 24 * 60 * 60;
    let site = Site::start().await;
    let asked = |role, expires_s, uses_max| CreateToken { expires_s, uses_max, ..CreateToken::of(role) };
    for (wanted, life_s, uses) in [
        (asked(TokenRole::Agent, None, None), Some(7 * 24 * 60 * 60), Some(1)),
        (asked(TokenRole::Agent, Some(60), Some(3)), Some(60), Some(3)),
        (asked(TokenRole::Viewer, None, None), None, None),
        (asked(TokenRole::Viewer, Some(1), None), Some(1), None),
        (asked(TokenRole::Admin, Some(LONGEST_S), None), Some(LONGEST_S), None),
    ] {
        let made = site.admin.create_token(&wanted).await.expect("a token").token;
        let life = made.expires.map(|expires| expires.duration_since(made.created).as_secs() as u64);
        assert_eq!((life, made.uses_max), (life_s, uses), "{wanted:?}");
    }
    for wrong in [
        asked(TokenRole::Agent, None, Some(0)),
        asked(TokenRole::Agent, Some(0), None),
        asked(TokenRole::Viewer, Some(0), None),
        asked(TokenRole::Viewer, Some(LONGEST_S + 1), None),
        asked(TokenRole::Viewer, Some(u64::MAX), None),
        asked(TokenRole::Viewer, None, Some(1)),
    ] {
        assert_eq!(status(site.admin.create_token(&wrong).await), (400, "invalid".into()), "{wrong:?}");
    }
    for limit in [1, 2] {
        assert_eq!(site.admin.audit(limit).await.expect("an answer").items.len(), limit as usize);
    }
    for limit in [0, 10_001] {
        assert_eq!(status(site.admin.audit(limit).await), (400, "invalid".into()), "{limit}");
    }
    assert_eq!(status(site.admin.revoke_token(TokenId(1_000), false).await).0, 404);
    let own = site.admin.tokens().await.expect("an answer").items.into_iter().filter(|token| token.own);
    assert_eq!(own.map(|token| token.token).collect::<Vec<_>>(), [TokenId(1)]);
    site.stop().await;
}
