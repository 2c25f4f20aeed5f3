//! As much of WASI preview 1 as the functions in `tests/functions` call, with a state that can be copied.

use wasmtime::{Caller, Linker};

const SUCCESS: i32 = 0;
const BAD_DESCRIPTOR: i32 = 8;
const NOT_SEEKABLE: i32 = 70;
const MODULE: &str = "wasi_snapshot_preview1";

/// What a program sees of the world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wasi {
    pub arguments: Vec<String>,
    pub input: Vec<u8>,
    pub read: usize,
    pub output: Vec<u8>,
    /// Nanoseconds; moves on at each look, so that it does not depend on the machine.
    pub clock: u64,
    pub random: u64,
}

/// The program asked to end.
#[derive(Debug)]
pub struct Exit(pub i32);

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit with {}", self.0)
    }
}

impl std::error::Error for Exit {}

/// A program's memory beside what it sees.
struct View<'m, 'w> {
    memory: &'m mut [u8],
    wasi: &'w mut Wasi,
}

impl View<'_, '_> {
    fn put(&mut self, at: i32, bytes: &[u8]) {
        self.memory[at as u32 as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn get(&self, at: i32) -> u32 {
        let bytes = &self.memory[at as u32 as usize..][..4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// The ranges that an array of vectors names.
    fn vectors(&self, at: i32, count: i32) -> Vec<std::ops::Range<usize>> {
        (0..count)
            .map(|nth| {
                let start = self.get(at + 8 * nth) as usize;
                start..start + self.get(at + 8 * nth + 4) as usize
            })
            .collect()
    }

    fn write(&mut self, descriptor: i32, at: i32, count: i32, written: i32) -> i32 {
        let mut total = 0;
        for range in self.vectors(at, count) {
            total += range.len() as u32;
            if descriptor == 1 {
                self.wasi.output.extend_from_slice(&self.memory[range]);
            }
        }
        self.put(written, &total.to_le_bytes());
        SUCCESS
    }

    fn read(&mut self, at: i32, count: i32, read: i32) -> i32 {
        let mut total = 0;
        for range in self.vectors(at, count) {
            let given = range.len().min(self.wasi.input.len() - self.wasi.read);
            self.memory[range.start..range.start + given].copy_from_slice(&self.wasi.input[self.wasi.read..][..given]);
            self.wasi.read += given;
            total += given as u32;
        }
        self.put(read, &total.to_le_bytes());
        SUCCESS
    }

    fn list_arguments(&mut self, pointers: i32, bytes: i32) -> i32 {
        let mut at = bytes;
        for (nth, argument) in self.wasi.arguments.clone().iter().enumerate() {
            self.put(pointers + 4 * nth as i32, &at.to_le_bytes());
            self.put(at, argument.as_bytes());
            self.put(at + argument.len() as i32, &[0]);
            at += argument.len() as i32 + 1;
        }
        SUCCESS
    }

    fn randomness(&mut self, at: i32, count: i32) -> i32 {
        for nth in 0..count {
            self.wasi.random = self.wasi.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let byte = (self.wasi.random >> 33) as u8;
            self.put(at + nth, &[byte]);
        }
        SUCCESS
    }
}

/// Offers these functions to programs.
pub fn link<T: 'static>(linker: &mut Linker<T>, wasi: fn(&mut T) -> &mut Wasi) {
    let at = move |caller: &mut Caller<'_, T>, act: &mut dyn FnMut(View<'_, '_>) -> i32| -> i32 {
        let memory = caller.get_export("memory").and_then(wasmtime::Extern::into_memory).expect("programs export it");
        let (memory, data) = memory.data_and_store_mut(caller);
        act(View { memory, wasi: wasi(data) })
    };
    let linked = || -> wasmtime::Result<()> {
        linker.func_wrap(MODULE, "args_sizes_get", move |mut c: Caller<'_, T>, count: i32, size: i32| {
            at(&mut c, &mut |mut view| {
                let (number, bytes) =
                    (view.wasi.arguments.len(), view.wasi.arguments.iter().map(|text| text.len() + 1).sum::<usize>());
                view.put(count, &(number as u32).to_le_bytes());
                view.put(size, &(bytes as u32).to_le_bytes());
                SUCCESS
            })
        })?;
        linker.func_wrap(MODULE, "args_get", move |mut c: Caller<'_, T>, pointers: i32, bytes: i32| {
            at(&mut c, &mut |mut view| view.list_arguments(pointers, bytes))
        })?;
        linker.func_wrap(MODULE, "environ_sizes_get", move |mut c: Caller<'_, T>, count: i32, size: i32| {
            at(&mut c, &mut |mut view| {
                view.put(count, &[0; 4]);
                view.put(size, &[0; 4]);
                SUCCESS
            })
        })?;
        linker.func_wrap(MODULE, "environ_get", |_: i32, _: i32| SUCCESS)?;
        linker.func_wrap(
            MODULE,
            "fd_write",
            move |mut c: Caller<'_, T>, descriptor: i32, vectors: i32, count: i32, written: i32| {
                at(&mut c, &mut |mut view| view.write(descriptor, vectors, count, written))
            },
        )?;
        linker.func_wrap(MODULE, "fd_read", move |mut c: Caller<'_, T>, _: i32, vectors: i32, count: i32, read: i32| {
            at(&mut c, &mut |mut view| view.read(vectors, count, read))
        })?;
        linker.func_wrap(MODULE, "fd_close", |_: i32| SUCCESS)?;
        linker.func_wrap(MODULE, "fd_seek", |_: i32, _: i64, _: i32, _: i32| NOT_SEEKABLE)?;
        linker.func_wrap(MODULE, "fd_fdstat_get", move |mut c: Caller<'_, T>, descriptor: i32, status: i32| {
            if !(0..3).contains(&descriptor) {
                return BAD_DESCRIPTOR;
            }
            at(&mut c, &mut |mut view| {
                let mut bytes = [0xff; 24];
                bytes[..8].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
                view.put(status, &bytes);
                SUCCESS
            })
        })?;
        linker.func_wrap(MODULE, "fd_fdstat_set_flags", |_: i32, _: i32| SUCCESS)?;
        linker.func_wrap(MODULE, "fd_prestat_get", |_: i32, _: i32| BAD_DESCRIPTOR)?;
        linker.func_wrap(MODULE, "fd_prestat_dir_name", |_: i32, _: i32, _: i32| BAD_DESCRIPTOR)?;
        linker.func_wrap(MODULE, "clock_time_get", move |mut c: Caller<'_, T>, _: i32, _: i64, time: i32| {
            at(&mut c, &mut |mut view| {
                view.wasi.clock += 1000;
                let now = view.wasi.clock.to_le_bytes();
                view.put(time, &now);
                SUCCESS
            })
        })?;
        linker.func_wrap(MODULE, "random_get", move |mut c: Caller<'_, T>, bytes: i32, count: i32| {
            at(&mut c, &mut |mut view| view.randomness(bytes, count))
        })?;
        linker.func_wrap(MODULE, "sched_yield", || SUCCESS)?;
        linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(wasmtime::Error::new(Exit(code))) })?;
        Ok(())
    };
    let mut linked = linked;
    linked().expect("each name is free");
}
