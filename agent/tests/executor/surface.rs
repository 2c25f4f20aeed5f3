//! The world of a migratable build is the plain one's: every function of preview 1, called by both, while one of them is
//! moved to another process before every call.

use std::path::PathBuf;

use bytes::Bytes;
use lull_engine::executor::process::{Finished, Input};
use lull_shared::state::Failure;

use super::{
    bench::{Bench, attempt, inline},
    movable::walker,
};

type Step = (&'static str, &'static str, &'static [i64]);

/// Every function, in and out of the contract, with sense and nonsense.
const EVERY_FUNCTION: &[Step] = &[
    ("args_sizes_get", "ii", &[64, 68]),
    ("args_get", "ii", &[600, 700]),
    ("environ_sizes_get", "ii", &[64, 68]),
    ("environ_get", "ii", &[800, 900]),
    ("clock_res_get", "ii", &[0, 72]),
    ("clock_res_get", "ii", &[1, 72]),
    ("clock_res_get", "ii", &[2, 72]),
    ("clock_time_get", "iIi", &[0, 1, 80]),
    ("clock_time_get", "iIi", &[1, 1, 88]),
    ("clock_time_get", "iIi", &[3, 1, 88]),
    ("random_get", "ii", &[256, 13]),
    ("random_get", "ii", &[256, 0]),
    ("random_get", "ii", &[280, 64]),
    ("sched_yield", "", &[]),
    ("fd_read", "iiii", &[0, 32, 2, 96]),
    ("fd_read", "iiii", &[0, 32, 1, 96]),
    ("fd_read", "iiii", &[1, 32, 2, 96]),
    ("fd_read", "iiii", &[3, 32, 2, 96]),
    ("fd_pread", "iiiIi", &[0, 32, 2, 0, 96]),
    ("fd_pread", "iiiIi", &[1, 32, 2, 0, 96]),
    ("fd_write", "iiii", &[1, 32, 2, 96]),
    ("fd_write", "iiii", &[2, 32, 2, 96]),
    ("fd_write", "iiii", &[0, 32, 2, 96]),
    ("fd_write", "iiii", &[9, 32, 2, 96]),
    ("fd_write", "iiii", &[1, 32, 0, 96]),
    ("fd_pwrite", "iiiIi", &[1, 32, 2, 0, 96]),
    ("fd_pwrite", "iiiIi", &[0, 32, 2, 0, 96]),
    ("fd_fdstat_get", "ii", &[0, 104]),
    ("fd_fdstat_get", "ii", &[1, 104]),
    ("fd_fdstat_get", "ii", &[2, 104]),
    ("fd_fdstat_get", "ii", &[3, 104]),
    ("fd_fdstat_set_flags", "ii", &[1, 0]),
    ("fd_fdstat_set_flags", "ii", &[7, 0]),
    ("fd_fdstat_set_rights", "iII", &[1, 0, 0]),
    ("fd_filestat_get", "ii", &[0, 128]),
    ("fd_filestat_get", "ii", &[4, 128]),
    ("fd_filestat_set_size", "iI", &[1, 5]),
    ("fd_filestat_set_times", "iIIi", &[1, 0, 0, 0]),
    ("fd_filestat_set_times", "iIIi", &[1, 0, 0, 3]),
    ("fd_advise", "iIIi", &[1, 0, 0, 0]),
    ("fd_allocate", "iII", &[1, 0, 8]),
    ("fd_datasync", "i", &[1]),
    ("fd_sync", "i", &[2]),
    ("fd_seek", "iIii", &[0, 0, 0, 200]),
    ("fd_seek", "iIii", &[5, 0, 0, 200]),
    ("fd_tell", "ii", &[1, 200]),
    ("fd_readdir", "iiiIi", &[3, 256, 64, 0, 200]),
    ("fd_prestat_get", "ii", &[3, 200]),
    ("fd_prestat_get", "ii", &[0, 200]),
    ("fd_prestat_dir_name", "iii", &[3, 256, 64]),
    ("path_create_directory", "iii", &[3, 512, 4]),
    ("path_filestat_get", "iiiii", &[3, 0, 512, 4, 208]),
    ("path_filestat_set_times", "iiiiIIi", &[3, 0, 512, 4, 0, 0, 0]),
    ("path_link", "iiiiiii", &[3, 0, 512, 4, 3, 512, 4]),
    ("path_open", "iiiiiIIii", &[3, 0, 512, 4, 1, 64, 0, 0, 200]),
    ("path_open", "iiiiiIIii", &[0, 0, 512, 4, 0, 0, 0, 0, 200]),
    ("path_readlink", "iiiiii", &[3, 512, 4, 256, 64, 200]),
    ("path_remove_directory", "iii", &[3, 512, 4]),
    ("path_rename", "iiiiii", &[3, 512, 4, 3, 512, 4]),
    ("path_symlink", "iiiii", &[512, 4, 3, 512, 4]),
    ("path_unlink_file", "iii", &[3, 512, 4]),
    ("poll_oneoff", "iiii", &[400, 1024, 1, 200]),
    ("poll_oneoff", "iiii", &[400, 1024, 2, 200]),
    ("poll_oneoff", "iiii", &[400, 1024, 0, 200]),
    ("poll_oneoff", "iiii", &[512, 1024, 1, 200]),
    ("poll_oneoff", "iiii", &[-16, 1024, 1, 200]),
    ("clock_time_get", "iIi", &[0, 1, 80]),
    ("proc_raise", "i", &[9]),
    ("sock_accept", "iii", &[0, 0, 200]),
    ("sock_accept", "iii", &[8, 0, 200]),
    ("sock_recv", "iiiiii", &[0, 32, 2, 0, 200, 204]),
    ("sock_send", "iiiii", &[0, 32, 2, 0, 200]),
    ("sock_shutdown", "ii", &[0, 1]),
    ("fd_close", "i", &[7]),
    ("fd_close", "i", &[-1]),
    ("fd_renumber", "ii", &[5, 6]),
    ("fd_renumber", "ii", &[2, 2]),
    ("fd_renumber", "ii", &[0, 9]),
];

/// What becomes of the standard descriptors, in every order that matters.
const CLOSINGS: [(&[Step], u32); 4] = [
    (
        &[("fd_close", "i", &[0]), ("fd_read", "iiii", &[0, 32, 2, 96]), ("fd_close", "i", &[0]), ("fd_renumber", "ii", &[1, 0])],
        1,
    ),
    (&[("fd_renumber", "ii", &[1, 2]), ("fd_write", "iiii", &[1, 32, 2, 96]), ("fd_fdstat_get", "ii", &[2, 104])], 2),
    (
        &[
            ("fd_renumber", "ii", &[0, 2]),
            ("fd_read", "iiii", &[2, 32, 2, 96]),
            ("fd_renumber", "ii", &[1, 2]),
            ("fd_close", "i", &[1]),
        ],
        2,
    ),
    (
        &[
            ("fd_close", "i", &[2]),
            ("fd_renumber", "ii", &[1, 1]),
            ("fd_renumber", "ii", &[1, 0]),
            ("fd_write", "iiii", &[0, 32, 2, 96]),
        ],
        0,
    ),
];

fn input() -> Input {
    Input::Inline(Bytes::from((0..=255).collect::<Vec<u8>>()))
}

/// Runs it, moving it to another process whenever it waits for that.
async fn moved(text: &str) -> (Finished, u32) {
    let bench = Bench::migratable(text);
    let mut snapshot: Option<PathBuf> = None;
    for moves in 0.. {
        let mut bed = bench.start().await;
        match snapshot.take() {
            None => bed.run_with(0, input()),
            Some(path) => bed.resume(0, input(), path),
        }
        let path = bench.folder.path().join(format!("snapshot-{moves}"));
        bed.executor.suspend(attempt(0), path.clone()).expect("it runs");
        match bed.saved_or_finished().await {
            Ok(_) => snapshot = Some(path),
            Err(finished) => return (finished, moves),
        }
    }
    unreachable!("it ends")
}

fn same(plain: &Finished, moved: &Finished) {
    assert_eq!(inline(plain), inline(moved));
    assert_eq!((&plain.log, plain.log_dropped_bytes), (&moved.log, moved.log_dropped_bytes));
    assert_eq!(plain.usage.memory_peak_bytes, moved.usage.memory_peak_bytes);
}

async fn plain(text: &str) -> Finished {
    let mut bed = Bench::new(text).start().await;
    bed.run_with(0, input());
    bed.finished().await
}

#[tokio::test]
async fn a_moved_function_sees_of_every_call_what_a_plain_one_sees() {
    for steps in EVERY_FUNCTION.chunks(28) {
        let text = walker(steps, 1);
        let (moved, moves) = moved(&text).await;
        same(&plain(&text).await, &moved);
        assert_eq!(moves as usize, steps.len(), "once before every call");
    }
}

#[tokio::test]
async fn what_a_function_closed_or_renumbered_stays_so_elsewhere() {
    for (steps, written_to) in CLOSINGS {
        let text = walker(steps, written_to);
        let (moved, moves) = moved(&text).await;
        same(&plain(&text).await, &moved);
        assert_eq!(moves as usize, steps.len());
    }
}

#[tokio::test]
async fn pointers_that_lead_nowhere_and_words_nobody_knows_trap_in_both_builds() {
    let traps: [Step; 11] = [
        ("clock_res_get", "ii", &[9, 72]),
        ("fd_advise", "iIIi", &[1, 0, 0, 99]),
        ("fd_seek", "iIii", &[1, 0, 7, 200]),
        ("args_get", "ii", &[-4, 64]),
        ("args_get", "ii", &[602, 700]),
        ("clock_time_get", "iIi", &[0, 1, 84]),
        ("fd_read", "iiii", &[0, -8, 2, 96]),
        ("fd_write", "iiii", &[1, 34, 2, 96]),
        ("random_get", "ii", &[-4, 64]),
        ("fd_fdstat_get", "ii", &[0, 524_284]),
        ("path_open", "iiiiiIIii", &[3, 0, -4, 64, 0, 0, 0, 0, 200]),
    ];
    for step in traps {
        let text = walker(&[step], 1);
        let why = |finished: Finished| match finished.outcome {
            Err(Failure::Trap { message, .. }) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(plain(&text).await), why(moved(&text).await.0), "{step:?}");
    }
}
