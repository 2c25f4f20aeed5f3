#![no_main]

use libfuzzer_sys::fuzz_target;
use lull_tests::decoders::{self, memory::Counting};

#[global_allocator]
static MEMORY: Counting = Counting;

fuzz_target!(|bytes: &[u8]| decoders::snapshot(bytes));
