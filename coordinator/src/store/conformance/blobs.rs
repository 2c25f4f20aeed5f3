//! Blobs: in, out, checked, and swept away when nobody needs them.

use std::time::Duration;

use lull_scheduler::effect::Change;
use lull_shared::{
    digest::{BlobRef, PIECE_BYTES},
    job::Inputs,
    message::{Artifact, MigratableBuild, ModuleKind, ModuleManifest, Payload},
    pack::{Content, PackBuilder},
    time::Timestamp,
};

use super::{
    super::{StoreError, record::SignManifest},
    World,
    sample::*,
};
use crate::clock;

fn noise(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8 ^ seed).collect()
}

impl World {
    async fn put(&self, bytes: &[u8]) -> BlobRef {
        let mut writer = self.store.begin_blob(bytes.len() as u64).await.expect("a blob begins");
        for part in bytes.chunks(100_000) {
            writer.write(part).await.expect("bytes are taken");
        }
        let blob = writer.finish().await.expect("the blob is kept");
        assert_eq!(blob, BlobRef::of(bytes));
        blob
    }

    async fn has(&self, blob: &BlobRef) -> bool {
        self.store.blob_outline(&blob.digest).await.expect("an answer").is_some()
    }
}

pub(super) async fn blobs_come_back_in_pieces_that_verify(world: World) {
    for len in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 4 * PIECE_BYTES, 9 * PIECE_BYTES + 12_345] {
        let bytes = noise(len, 0);
        let blob = world.put(&bytes).await;
        let (found, outline) = world.store.blob_outline(&blob.digest).await.expect("an answer").expect("the blob is there");
        assert_eq!(found, blob);
        outline.verify(&blob).expect("the outline is the blob's");
        let mut read = Vec::new();
        for index in 0..blob.pieces() {
            let piece = world.store.blob_piece(&blob.digest, index).await.expect("an answer").expect("the piece is there");
            outline.verify_piece(&blob, index, &piece).expect("the piece is the blob's");
            read.extend_from_slice(&piece);
        }
        assert_eq!(read, bytes);
        assert_eq!(world.store.blob_piece(&blob.digest, blob.pieces()).await.expect("an answer"), None);
    }
}

pub(super) async fn a_blob_given_twice_is_one_blob(world: World) {
    let bytes = noise(PIECE_BYTES * 2, 1);
    let first = world.put(&bytes).await;
    assert_eq!(world.put(&bytes).await, first);
    assert_eq!(world.store.sweep_blobs(&world.lead, Timestamp(i64::MAX)).await.expect("an answer"), 1);
    assert!(!world.has(&first).await);
    assert_eq!(world.put(&bytes).await, first, "it can be given again after it was swept");
    assert!(world.has(&first).await);
}

pub(super) async fn an_unfinished_or_oversized_blob_is_nothing(world: World) {
    let bytes = noise(PIECE_BYTES * 6, 2);
    let mut dropped = world.store.begin_blob(u64::MAX).await.expect("a blob begins");
    dropped.write(&bytes).await.expect("bytes are taken");
    drop(dropped);
    let mut small = world.store.begin_blob(10).await.expect("a blob begins");
    small.write(b"0123456789").await.expect("as much as was asked for");
    assert!(matches!(small.write(b"x").await, Err(StoreError::Determinate(_))));
    drop(small);
    assert!(!world.has(&BlobRef::of(&bytes)).await && !world.has(&BlobRef::of(b"0123456789")).await);
    let two =
        [world.store.begin_blob(100).await.expect("one begins"), world.store.begin_blob(100).await.expect("another begins")];
    for (mut writer, bytes) in two.into_iter().zip([&b"left"[..], b"right"]) {
        writer.write(bytes).await.expect("bytes are taken");
        assert_eq!(writer.finish().await.expect("the blob is kept"), BlobRef::of(bytes));
    }
}

#[derive(Debug)]
struct WithArtifacts {
    module: BlobRef,
    artifact: BlobRef,
    movable: BlobRef,
    movable_artifact: BlobRef,
}

impl SignManifest for WithArtifacts {
    fn sign(&self, number: u32) -> lull_shared::identity::Signed {
        let manifest = ModuleManifest {
            function: "resize".into(),
            number,
            kind: ModuleKind::Preview1,
            module: self.module,
            canonical_nans: false,
            artifacts: vec![Artifact { engine: "w48".into(), blob: self.artifact }],
            migratable: Some(MigratableBuild {
                module: self.movable,
                artifacts: vec![Artifact { engine: "w48".into(), blob: self.movable_artifact }],
                cost_percent: None,
            }),
        };
        lull_shared::identity::Signed { body: lull_shared::codec::encode(&manifest), signature: vec![9] }
    }
}

pub(super) async fn a_sweep_keeps_what_is_referred_to(world: World) {
    let (module, artifact) = (world.put(b"the module").await, world.put(b"compiled").await);
    let mut new = version("resize", b"the module");
    let (movable, movable_artifact) = (world.put(b"the movable build").await, world.put(b"that, compiled").await);
    new.sign = std::sync::Arc::new(WithArtifacts { module, artifact, movable, movable_artifact });
    world.store.publish(&world.lead, new).await.expect("a module is published");
    let world = world.peopled_without_version().await;

    let (input, output, orphan) =
        (world.put(&noise(400_000, 3)).await, world.put(&noise(400_000, 4)).await, world.put(b"orphan").await);
    let mut pack = PackBuilder::default();
    pack.push("inline", Content::Inline(b"here"));
    pack.push("large", Content::Blob(input));
    let pack_bytes = pack.finish();
    let pack = world.put(&pack_bytes).await;
    let mut spec = spec(2);
    spec.inputs = Inputs::Pack { pack, count: 2 };
    let mut result = succeeded(attempt(1, 0, 1), 1, 11, b"");
    if let Change::AttemptEnded(end) = &mut result {
        end.output = Some(Payload::Blob(output));
    }
    world.commit(&[submitted_as(1, "anna", spec), started(attempt(1, 0, 1), 1, 10), result]).await;
    let package = world.put(b"a package").await;
    let begun = crate::store::record::RolloutRecord { package, ..rollout(1, "0.2.0") };
    assert!(world.store.begin_rollout(&world.lead, begun).await.expect("begun"));

    assert_eq!(world.store.sweep_blobs(&world.lead, Timestamp(0)).await.expect("an answer"), 0, "young ones are left alone");
    assert_eq!(world.store.sweep_blobs(&world.lead, Timestamp(i64::MAX)).await.expect("an answer"), 1);
    assert!(!world.has(&orphan).await);
    for kept in [module, artifact, movable, movable_artifact, input, output, pack, package] {
        assert!(world.has(&kept).await, "{kept:?} is needed");
    }
    assert_eq!(world.store.sweep_blobs(&world.lead, Timestamp(i64::MAX)).await.expect("an answer"), 0);
}

pub(super) async fn a_sweep_deletes_large_blobs_in_parts_and_packs_with_their_links(world: World) {
    let world = world.peopled(1).await;
    let large = world.put(&noise(70 * PIECE_BYTES + 1, 5)).await;
    let small = [world.put(b"one").await, world.put(b"two").await];
    let input = world.put(&noise(300_000, 6)).await;
    let mut pack = PackBuilder::default();
    pack.push("large", Content::Blob(input));
    let pack = world.put(&pack.finish()).await;
    // Two jobs with one pack: it is read once.
    for job in [1, 2] {
        let mut spec = spec(1);
        spec.inputs = Inputs::Pack { pack, count: 1 };
        world.commit(&[submitted_as(job, "anna", spec)]).await;
    }
    assert_eq!(world.store.sweep_blobs(&world.lead, Timestamp(i64::MAX)).await.expect("an answer"), 3);
    assert!(!world.has(&large).await && !world.has(&small[0]).await && !world.has(&small[1]).await);
    assert!(world.has(&pack).await && world.has(&input).await);
    assert_eq!(world.put(b"one").await, small[0], "what was swept can be given again");
    assert!(world.has(&small[0]).await);
}

pub(super) async fn a_blob_that_was_asked_for_outlives_the_next_sweep(world: World) {
    let hours = |count: u64| clock::now() + Duration::from_secs(3_600 * count);
    let (asked, other) = (world.put(b"asked for").await, world.put(&noise(PIECE_BYTES + 1, 8)).await);
    // Fresh enough: there is nothing to do.
    assert_eq!(world.store.touch_blob(&asked.digest, clock::now()).await.expect("an answer"), Some(asked));
    assert_eq!(world.store.touch_blob(&asked.digest, hours(30)).await.expect("an answer"), Some(asked));
    assert_eq!(world.store.touch_blob(&asked.digest, hours(20)).await.expect("an answer"), Some(asked), "by another clock");
    assert_eq!(world.store.sweep_blobs(&world.lead, hours(25)).await.expect("an answer"), 1);
    assert!(world.has(&asked).await && !world.has(&other).await);
    assert_eq!(world.store.touch_blob(&other.digest, hours(30)).await.expect("an answer"), None, "it is to be brought again");
    assert_eq!(world.store.sweep_blobs(&world.lead, hours(31)).await.expect("an answer"), 1);
    assert_eq!(world.store.touch_blob(&asked.digest, hours(31)).await.expect("an answer"), None);
}

/// Whoever is told that a blob is there finds it, however the sweep comes in between.
pub(super) async fn no_blob_goes_of_which_it_was_just_said_that_it_is_there(world: World) {
    let now = clock::now() + Duration::from_secs(48 * 3_600);
    for round in 0..20_u8 {
        let blob = world.put(&noise(1_000, round)).await;
        let (store, lead) = (world.store.clone(), world.lead.clone());
        let sweep = tokio::spawn(async move { store.sweep_blobs(&lead, now - Duration::from_secs(24 * 3_600)).await });
        let told = world.store.touch_blob(&blob.digest, now).await.expect("an answer");
        sweep.await.expect("it ends").expect("it is done");
        assert_eq!(world.has(&blob).await, told.is_some());
        assert_eq!(
            world.store.sweep_blobs(&world.lead, Timestamp(i64::MAX)).await.expect("an answer"),
            u64::from(told.is_some())
        );
    }
}

pub(super) async fn an_upload_that_was_given_up_is_not_kept(world: World) {
    let mut slow = world.store.begin_blob(u64::MAX).await.expect("a blob begins");
    let bytes = noise(20 * PIECE_BYTES, 7);
    slow.write(&bytes).await.expect("bytes are taken");
    world.store.sweep_blobs(&world.lead, Timestamp(i64::MAX)).await.expect("an answer");
    // It is kept whole or not at all.
    let _ = slow.finish().await;
    if let Some((blob, outline)) = world.store.blob_outline(&BlobRef::of(&bytes).digest).await.expect("an answer") {
        for index in 0..blob.pieces() {
            let piece = world.store.blob_piece(&blob.digest, index).await.expect("an answer").expect("no piece is missing");
            outline.verify_piece(&blob, index, &piece).expect("the piece is the blob's");
        }
    }
}

impl World {
    async fn peopled_without_version(self) -> Self {
        use super::super::record::TokenRole;
        let made = self.store.create_token(&self.lead, token(TokenRole::Agent, 200)).await;
        let made = made.expect("an answer").expect("a token is made");
        self.enrolled(enrolment(made.token, 200, "peer 1", "desk-1")).await;
        self
    }
}
