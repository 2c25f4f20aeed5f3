use lull_shared::{
    digest::{BlobRef, Digest},
    id::{JobId, TaskId},
    job::AttemptLimits,
    state::Usage,
};
use proptest::prelude::*;

use super::{
    Part, SEAL_BYTES, Seal, Unfit,
    body::{self, Bounds, Global, Host, Next, Reader, Small},
};

type Memories = Vec<(u32, Vec<u8>)>;

const WASM_PAGE: usize = 64 << 10;
const BOUNDS: Bounds = Bounds { output_bytes: 1 << 16, log_bytes: 1 << 10, stack_bytes: 1 << 20 };

fn seal() -> Seal {
    Seal {
        task: TaskId { job: JobId(7), index: 3 },
        code: Digest::of(b"build"),
        output: BlobRef::of(b"output"),
        body: BlobRef::of(b"the body"),
        usage: Usage { wall_us: 5_000, cpu_us: 4_000, memory_peak_bytes: 1 << 20 },
        ran_us: 4_500,
    }
}

const SEALED_BYTES: u64 = 6 + 8 + SEAL_BYTES as u64;

#[test]
fn a_seal_reads_back_and_every_flipped_bit_is_noticed() {
    let bytes = seal().encode();
    assert_eq!(Seal::decode(&bytes, SEALED_BYTES), Ok(seal()));
    for bit in 0..SEAL_BYTES * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Seal::decode(&flipped, SEALED_BYTES).is_err(), "bit {bit}");
    }
}

#[test]
fn a_seal_of_another_format_is_refused_by_its_number() {
    let mut bytes = seal().encode();
    bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
    assert_eq!(Seal::decode(&bytes, SEALED_BYTES), Err(Unfit::Format { found: 7 }));
    assert_eq!(Seal::decode(&[b'x'; SEAL_BYTES], SEALED_BYTES), Err(Unfit::None));
}

#[test]
fn a_file_that_lost_a_byte_before_its_seal_is_no_snapshot() {
    for file_bytes in [0, SEALED_BYTES - 1, SEALED_BYTES + 1, u64::MAX] {
        assert_eq!(Seal::decode(&seal().encode(), file_bytes), Err(Unfit::None));
    }
}

#[test]
fn a_snapshot_fits_its_own_task_and_build_within_the_limits_and_nothing_else() {
    let (seal, limits) = (seal(), AttemptLimits::default());
    let fits = |task, code, limits: AttemptLimits| seal.fits(task, code, &limits);
    assert_eq!(fits(seal.task, seal.code, limits), Ok(()));
    let other = TaskId { index: 4, ..seal.task };
    assert!(matches!(fits(other, seal.code, limits), Err(Unfit::Task { .. })));
    assert!(matches!(fits(seal.task, Digest::of(b"other"), limits), Err(Unfit::Code { .. })));
    assert!(matches!(fits(seal.task, seal.code, AttemptLimits { memory_bytes: 1000, ..limits }), Err(Unfit::Memory { .. })));
    assert!(matches!(fits(seal.task, seal.code, AttemptLimits { output_bytes: 5, ..limits }), Err(Unfit::Output { .. })));
}

/// A memory with something in these of its 4 KiB pages.
fn memory(wasm_pages: usize, used: &[(usize, u8)]) -> Vec<u8> {
    let mut memory = vec![0; wasm_pages * WASM_PAGE];
    for (page, value) in used {
        let pages = memory.len() / 4096;
        if pages > 0 {
            let at = page % pages * 4096;
            memory[at + usize::from(*value)] = *value;
        }
    }
    memory
}

fn read(bytes: &[u8], dirty: bool) -> Result<(Small, Memories), Unfit> {
    let (mut reader, small) = Reader::open(bytes, &BOUNDS)?;
    let mut memories = Vec::new();
    while let Some(Next { number, size_bytes }) = reader.memory()? {
        let size = usize::try_from(size_bytes).ok().filter(|size| *size <= 64 * WASM_PAGE);
        let size = size.ok_or(Unfit::Memory { needed_bytes: size_bytes, limit_bytes: 0 })?;
        let mut memory = vec![if dirty { 0xdd } else { 0 }; size];
        reader.fill(&mut memory, if dirty { size } else { 0 })?;
        memories.push((number, memory));
    }
    Ok((small, memories))
}

fn small(output: Vec<u8>, globals: Vec<Global>, stack: Vec<u8>) -> Small {
    let host = Host {
        stdin_position: 77,
        output,
        log_head: b"first".to_vec(),
        log_tail: b"last".to_vec(),
        log_dropped_bytes: 9,
        random_position: u128::from(u64::MAX) + 5,
        clock_ns: 1_000_000,
        descriptors: [1, 2, 3],
        memory_denied: true,
    };
    Small { host, globals: (2..).step_by(3).zip(globals).collect(), stack }
}

fn written(small: &Small, memories: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let memories = memories.iter().map(|(number, memory)| (*number, memory.as_slice())).collect::<Vec<_>>();
    body::write(Vec::new(), small, &memories).expect("a vector takes everything")
}

fn example() -> (Small, Memories, Vec<u8>) {
    let small = small(vec![7; 100], vec![Global::I32(-1), Global::V128(1 << 100)], vec![9; 333]);
    let memories = vec![(0, memory(2, &[(0, 1), (1, 2), (31, 3)])), (1, memory(1, &[]))];
    let bytes = written(&small, &memories);
    (small, memories, bytes)
}

#[test]
fn a_body_reads_back_whatever_the_fresh_memory_held() {
    let (small, memories, bytes) = example();
    assert!(bytes.len() < 1000, "empty pages cost nothing: {} bytes", bytes.len());
    assert_eq!(read(&bytes, false), Ok((small.clone(), memories.clone())));
    assert_eq!(read(&bytes, true), Ok((small, memories)));
}

#[test]
fn a_body_that_was_cut_anywhere_is_damaged() {
    let (_, _, bytes) = example();
    for length in 0..bytes.len() {
        let cut = read(&bytes[..length], false);
        // The last four bytes are the frame's end mark: its loss is noticed by the digest.
        assert!(cut.is_err() || length >= bytes.len() - 4, "{length} of {} bytes", bytes.len());
    }
}

#[test]
fn parts_beyond_their_bounds_are_refused_before_there_is_room_for_them() {
    let oversized = written(&small(vec![0; BOUNDS.output_bytes + 1], Vec::new(), Vec::new()), &[]);
    assert_eq!(read(&oversized, false).err(), Some(Unfit::Damaged { part: Part::Body }));
    let oversized = written(&small(Vec::new(), Vec::new(), vec![0; BOUNDS.stack_bytes + 1]), &[]);
    assert_eq!(read(&oversized, false).err(), Some(Unfit::Damaged { part: Part::Body }));
    let many = vec![(0, Vec::new()); body::MEMORIES_MAX + 1];
    assert_eq!(read(&written(&Small::default(), &many), false).err(), Some(Unfit::Damaged { part: Part::Body }));
}

fn globals() -> impl Strategy<Value = Vec<Global>> {
    let global = prop_oneof![
        any::<i32>().prop_map(Global::I32),
        any::<i64>().prop_map(Global::I64),
        any::<u32>().prop_map(Global::F32),
        any::<u64>().prop_map(Global::F64),
        any::<u128>().prop_map(Global::V128),
    ];
    prop::collection::vec(global, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_written_reads_back(
        output in prop::collection::vec(any::<u8>(), 0..300),
        stack in prop::collection::vec(any::<u8>(), 0..300),
        globals in globals(),
        memories in prop::collection::vec((0_usize..3, prop::collection::vec((0_usize..64, any::<u8>()), 0..12)), 0..3),
    ) {
        let small = small(output, globals, stack);
        let memories: Vec<_> = (0..).zip(memories.iter().map(|(pages, used)| memory(*pages, used))).collect();
        let bytes = written(&small, &memories);
        prop_assert_eq!(read(&bytes, true), Ok((small, memories)));
    }

    #[test]
    fn damaged_bodies_are_refused_or_read_within_bounds(flips in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let (_, _, mut bytes) = example();
        for (at, value) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        // It may read as something else: the digest in the seal is what says that it is the same.
        let _ = read(&bytes, true);
    }
}
