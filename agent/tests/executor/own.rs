//! Artifacts that the agent makes and keeps itself.

use libp2p::identity::Keypair;
use lull_engine::executor::{
    artifact::{ArtifactError, Artifacts, published},
    compile::{CompileError, Refusal},
    engine,
};
use lull_shared::{
    digest::{BlobRef, Digest},
    message::{Artifact, ModuleKind, ModuleManifest},
};

use super::{
    bench::{Bench, inline, program},
    guests,
};

struct Workshop {
    folder: tempfile::TempDir,
    manifest: ModuleManifest,
    identity: Keypair,
}

impl Workshop {
    fn new(module: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("module"), module).expect("a file");
        let manifest = ModuleManifest {
            function: "echo".into(),
            number: 1,
            kind: ModuleKind::Preview1,
            module: BlobRef::of(module),
            canonical_nans: true,
            artifacts: Vec::new(),
            migratable: None,
        };
        Self { folder, manifest, identity: Keypair::generate_ed25519() }
    }

    fn artifacts(&self) -> Artifacts {
        let engine = engine::compatibility().expect("it has a name");
        Artifacts::new(self.folder.path().join("compiled"), self.identity.clone(), engine).with_program(program())
    }

    async fn ready(&self) -> Result<lull_engine::executor::artifact::Ready, ArtifactError> {
        self.artifacts().ready(&self.manifest, &self.folder.path().join("module")).await
    }
}

fn echo() -> Vec<u8> {
    wat::parse_str(guests::ECHO).expect("valid text")
}

#[tokio::test]
async fn a_module_is_compiled_once_and_runs() {
    let workshop = Workshop::new(&echo());
    let ready = workshop.ready().await.expect("it compiles");
    let made = std::fs::metadata(&ready.path).and_then(|file| file.created()).expect("the file");
    assert_eq!(workshop.ready().await.expect("it is kept"), ready);
    assert_eq!(std::fs::metadata(&ready.path).and_then(|file| file.created()).expect("the file"), made, "it is not made again");
    let mut bench = Bench::new(guests::NOOP);
    bench.load.artifact = ready.path.into();
    bench.load.digest = ready.digest;
    assert_eq!(inline(&bench.once(b"hello").await), b"hello");
}

#[tokio::test]
async fn an_artifact_that_somebody_else_vouches_for_is_compiled_anew() {
    let mut workshop = Workshop::new(&echo());
    let ready = workshop.ready().await.expect("it compiles");
    std::fs::write(&ready.path, b"planted").expect("a file");
    assert_ne!(workshop.ready().await.expect("it compiles").digest, Digest::of(b"planted"));
    workshop.identity = Keypair::generate_ed25519();
    std::fs::write(&ready.path, b"planted").expect("a file");
    assert_eq!(workshop.ready().await.expect("it compiles"), ready, "compiling is deterministic");
}

#[tokio::test]
async fn what_does_not_compile_is_told_in_words() {
    let workshop = Workshop::new(b"\0asm\x01\0\0\0\xff");
    let error = workshop.ready().await.expect_err("it is damaged");
    assert!(matches!(error, ArtifactError::Compile(CompileError::Refused(Refusal::Module(_)))), "{error}");
    let mut workshop = Workshop::new(&echo());
    workshop.manifest.module.digest = Digest::of(b"another");
    let error = workshop.ready().await.expect_err("it is another module");
    assert!(matches!(error, ArtifactError::Compile(CompileError::Refused(Refusal::Digest { .. }))), "{error}");
}

#[test]
fn a_published_artifact_is_found_by_the_engines_name() {
    let mut workshop = Workshop::new(b"module");
    let blob = BlobRef::of(b"artifact");
    workshop.manifest.artifacts.push(Artifact { engine: "this".into(), blob });
    assert_eq!(published(&workshop.manifest, "this"), Some(&blob));
    assert_eq!(published(&workshop.manifest, "that"), None);
}
