//! Every decoder of foreign bytes meets what fuzzing found interesting once, and damaged copies of it.
//!
//! `LULL_DAMAGED=1000000 LULL_SEED=7` makes that many copies of each, others than on every run; `LULL_SECONDS=600` as many
//! as that time allows, and says how many those were.
//! `LULL_SEEDS=write cargo test --workspace --test corpora` writes the seeds anew into `tests/fuzz/corpus`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lull_shared::{
    codec,
    limits::FRAME_BYTES_MAX,
    message::{ToCoordinator, ToCoordinatorFrame},
};
use lull_tests::decoders::{self, memory, seeds};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting;

macro_rules! replayed {
    ($($decoder:ident $damaged:literal,)*) => {
        $(#[test]
        fn $decoder() {
            replay(stringify!($decoder), $damaged, decoders::$decoder);
        })*

        const DECODERS: &[&str] = &[$(stringify!($decoder)),*];
    };
}

// With each decoder the number of damaged copies: as many as take a second or two in a debug build.
replayed! {
    artifact 500,
    config 2_000,
    executor 2_000,
    frames 4_000,
    gossip 4_000,
    http 300,
    identity 500,
    ipc 4_000,
    modules 4_000,
    outbox 200,
    pack 4_000,
    pieces 1_000,
    protocol 4_000,
    scheduler 1_000,
    session 1_000,
    snapshot 2_000,
    token 2_000,
    words 4_000,
}

fn corpus(decoder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(decoder)
}

fn wanted(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn replay(decoder: &str, damaged: u64, check: fn(&[u8])) {
    let mut inputs: Vec<(String, Vec<u8>)> =
        seeds::of(decoder).into_iter().zip(0..).map(|(seed, number)| (format!("seed-{number:02}"), seed)).collect();
    if std::env::var_os("LULL_SEEDS").is_some_and(|what| what == "write") {
        write_seeds(&corpus(decoder), &inputs);
    }
    for entry in fs::read_dir(corpus(decoder)).expect("it has a corpus") {
        let path = entry.expect("a file").path();
        inputs.push((path.display().to_string(), fs::read(&path).expect("a file")));
    }
    inputs.sort();
    for (name, input) in &inputs {
        try_one(decoder, name, input, check);
    }
    let mut random = StdRng::seed_from_u64(wanted("LULL_SEED").unwrap_or(1));
    let rounds = wanted("LULL_DAMAGED").unwrap_or(damaged);
    let until = wanted("LULL_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let goes_on = |round| until.map_or(round < rounds, |until| Instant::now() < until);
    let mut round = 0;
    while goes_on(round) {
        let (name, input) = inputs.choose(&mut random).expect("it has seeds");
        let (_, other) = inputs.choose(&mut random).expect("it has seeds");
        let input = damage(input.clone(), other, &mut random);
        try_one(decoder, &format!("{name}, damaged in round {round}"), &input, check);
        round += 1;
    }
    println!("{decoder}: {} inputs, {round} damaged copies", inputs.len());
}

fn write_seeds(folder: &Path, seeds: &[(String, Vec<u8>)]) {
    fs::create_dir_all(folder).expect("a folder");
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
            fs::remove_file(path).expect("an old seed");
        }
    }
    for (name, seed) in seeds {
        fs::write(folder.join(name), seed).expect("a seed");
    }
}

/// Names the input that failed, so that it can be put into the corpus.
fn try_one(decoder: &str, name: &str, input: &[u8], check: fn(&[u8])) {
    let outcome = std::panic::catch_unwind(|| check(input));
    if let Err(panic) = outcome {
        eprintln!("{decoder} failed for {name}: {}", data_encoding::HEXLOWER.encode(input));
        std::panic::resume_unwind(panic);
    }
}

/// Does to some bytes what libFuzzer would: a few changes of the usual kinds.
fn damage(mut bytes: Vec<u8>, other: &[u8], random: &mut StdRng) -> Vec<u8> {
    const ODD: [u64; 8] = [0, 1, 127, 250, 255, 1 << 20, u32::MAX as u64, u64::MAX];
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        let left = bytes.len() - at;
        match random.random_range(0..8) {
            0 if left > 0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 if left > 0 => bytes[at] = random.random(),
            2 => bytes.insert(at, random.random()),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..at + random.random_range(0..=left.min(8)))),
            5 => {
                let again = bytes[at..at + random.random_range(0..=left.min(64))].to_vec();
                bytes.splice(at..at, again);
            }
            6 => {
                let odd = ODD.choose(random).expect("there are some").to_le_bytes();
                let width = *[1, 2, 4, 8].choose(random).expect("there are some");
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, odd[..width].iter().copied());
            }
            _ => {
                let from = random.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn every_target_has_its_corpus_and_every_corpus_its_target() {
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder)).expect("a folder");
        let name = |entry: fs::DirEntry| entry.path().file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let mut names: Vec<String> = entries.filter_map(|entry| name(entry.expect("an entry"))).collect();
        names.sort();
        names
    };
    assert_eq!(names("corpus"), DECODERS);
    assert_eq!(names("fuzz_targets"), DECODERS);
}

/// The least message has one byte on the wire and hundreds in memory.
#[test]
fn a_frame_of_more_messages_than_are_taken_is_refused_before_there_is_room_for_them() {
    let farewell = codec::encode(&ToCoordinatorFrame { messages: vec![ToCoordinator::Farewell] });
    let [format, 1, least] = farewell[..] else { panic!("{farewell:?}") };
    let most = FRAME_BYTES_MAX as u32 - 6;
    let frame = [&[format, 252], most.to_le_bytes().as_slice(), &vec![least; most as usize]].concat();
    let (peak, decoded) = memory::peak(|| codec::decode::<ToCoordinatorFrame>(&frame));
    assert!(decoded.is_err());
    assert!(peak < FRAME_BYTES_MAX, "{peak} bytes of memory");
}

#[test]
fn memory_out_of_proportion_is_noticed() {
    let (peak, _) = memory::peak(|| vec![0_u8; 1 << 20]);
    assert!((1 << 20..2 << 20).contains(&peak), "{peak} bytes");
    let greedy = std::panic::catch_unwind(|| memory::bounded(10, || vec![1_u8; 32 << 20]));
    assert!(greedy.is_err());
}
