//! The engine's name without an engine in this process.

use lull_engine::executor::{engine, naming::engine_name};

use super::bench::program;

#[tokio::test]
async fn the_name_is_asked_once_for_each_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("engine.json");
    let expected = engine::compatibility().expect("it has a name");
    assert_eq!(engine_name(Some(program()), &kept).await.expect("a name"), expected);
    let text = std::fs::read_to_string(&kept).expect("it is remembered");
    std::fs::write(&kept, text.replace("wasmtime", "remembered")).expect("written");
    let remembered = engine_name(Some(program()), &kept).await.expect("a name");
    assert_eq!(remembered, expected.replace("wasmtime", "remembered"), "it is not asked again");

    let other = folder.path().join("another-program");
    std::os::unix::fs::symlink(program(), &other).expect("a link");
    assert_eq!(engine_name(Some(other), &kept).await.expect("a name"), expected, "that of another program is");
    std::fs::write(&kept, "damaged").expect("written");
    assert_eq!(engine_name(Some(program()), &kept).await.expect("a name"), expected);
}

#[tokio::test]
async fn a_program_that_says_nothing_sensible_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("engine.json");
    assert!(engine_name(Some("/bin/echo".into()), &kept).await.is_err());
    assert!(!kept.exists());
}
