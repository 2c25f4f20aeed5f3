//! What holds an executor beside WebAssembly's own walls, on the kernel of this machine.

use super::{bench::Bench, guests};

#[tokio::test]
async fn a_loaded_executor_reaches_neither_files_nor_network_nor_programs() {
    for bench in [Bench::new(guests::NOOP), Bench::new(guests::NOOP).with_scratch(1 << 20)] {
        let bed = bench.start().await;
        let cage = bed.executor.cage();
        assert!(cage.is_closed(), "{cage}");
        assert!(cage.system_calls.holds() && cage.limits.holds(), "{cage}");
        assert!(cage.processes.holds(), "neither its agent nor anybody else can be signalled: {cage}");
        assert!(!cage.priority.holds(), "the tests do not ask for it");
    }
}

#[tokio::test]
async fn an_executor_steps_back_behind_everybody() {
    let mut bench = Bench::new(guests::NOOP);
    bench.load.priority = Default::default();
    let bed = bench.start().await;
    assert!(bed.executor.cage().priority.holds(), "{}", bed.executor.cage());
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", bed.executor.pid())).expect("it lives");
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace().collect::<Vec<_>>();
    const SCHED_IDLE: &str = "5";
    assert_eq!((fields[16], fields[38]), ("19", SCHED_IDLE));
}

#[tokio::test]
async fn an_executor_inherits_nothing() {
    let inherited = std::fs::File::open("/dev/null").expect("a file");
    let bench = Bench::new(guests::NOOP).with_scratch(1 << 20);
    let bed = bench.start().await;
    let folder = format!("/proc/{}", bed.executor.pid());
    let environment = std::fs::read(format!("{folder}/environ")).expect("it lives");
    assert!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
    for entry in std::fs::read_dir(format!("{folder}/fd")).expect("it lives") {
        let target = std::fs::read_link(entry.expect("an entry").path()).expect("a link");
        let target = target.to_string_lossy().into_owned();
        let scratch = target.starts_with(&*bench.folder.path().to_string_lossy()) && target.ends_with("(deleted)");
        let known = scratch
            || ["pipe:", "/dev/null", "/proc/", "/memfd:lull-trail"].iter().any(|known| target.starts_with(known))
            || target == bench.load.artifact.to_string_lossy();
        assert!(known, "{target}");
    }
    drop(inherited);
}
