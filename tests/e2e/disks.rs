//! Disks that are full: nothing is lost, and work goes on when there is room again.
//!
//! Each needs a small file system of its own, which only root may mount; elsewhere the test says that it did not run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lull_tests::cluster::{Cluster, FIRST, text, wait_until};

use crate::{PROGRAMS, busy::Busy};

/// A file system in memory; unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: PathBuf, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(&at).expect("a folder");
        let options = format!("size={megabytes}m,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "lull-test", text(&at)]).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        let ballast = [0_u8; 4096];
        let mut file = fs::File::create(self.ballast()).expect("a file");
        while std::io::Write::write_all(&mut file, &ballast).is_ok() {}
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).expect("it is there");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: processes of a failed test may still be ending.
        let _ = Command::new("umount").args(["-l", text(&self.0)]).status();
    }
}

pub(crate) fn not_run(what: &str) {
    println!("NOT RUN: {what}: mounting a small disk needs root");
}

fn log(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn an_agent_whose_disk_is_full_leaves_the_work_to_others() {
    let mut cluster = Cluster::start(PROGRAMS);
    let Some(disk) = SmallDisk::mount(cluster.path("full"), 16) else { return not_run("a full disk of an agent") };
    cluster.add_agent("full", 1, &[]);
    let warm = Busy::submit(&cluster, 3);
    warm.finish(&cluster);
    disk.fill();
    // Results are small: the last page of the outbox takes some tens of them before a new one is needed.
    let busy = Busy::submit(&cluster, 100);
    let refused = |cluster: &Cluster| log(&cluster.path("full.log")).contains("No space left on device");
    wait_until("its disk refuses", || refused(&cluster), || log(&cluster.path("full.log")));
    cluster.add_agent("roomy", 1, &[]);
    busy.wait_for(&cluster, 10);
    disk.free();
    busy.finish(&cluster);
    let again = Busy::submit(&cluster, 6);
    again.finish(&cluster);
    drop(cluster);
}

#[test]
fn a_coordinator_whose_disk_is_full_waits_for_room_and_loses_nothing() {
    let mut cluster = Cluster::prepared(PROGRAMS);
    let Some(disk) = SmallDisk::mount(cluster.path(FIRST), 24) else { return not_run("a full disk of the coordinator") };
    cluster.start_server();
    cluster.add_agent("desk", 1, &[]);
    let busy = Busy::submit(&cluster, 60);
    busy.wait_for(&cluster, 5);
    disk.fill();
    let refused = |cluster: &Cluster| log(&cluster.path("server.log")).contains("the disk is full");
    wait_until("its disk refuses", || refused(&cluster), || log(&cluster.path("server.log")));
    // Whoever looks is answered meanwhile, also by what only the scheduler knows.
    assert_eq!(cluster.job(&busy.job)["state"], "active");
    cluster.lull(&["status"]);
    cluster.lull(&["explain", &busy.job]);

    // One that starts without room says so, and starts when there is some.
    cluster.kill_server();
    let server_log = cluster.path("server.log");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let waits = || log(&server_log).contains("the coordinator waits and starts by itself");
            wait_until("it says that it waits", waits, || log(&server_log));
            disk.free();
        });
        cluster.launch_server(FIRST);
    });
    busy.finish(&cluster);
}
