//! Runs a program both ways and says how they differ.

use lull_engine::migratable::rewrite;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use wasmtime::{Engine, Module};

use super::{
    machine::{End, Machine, Moment, Remains},
    wasi::Wasi,
};

/// Moves of one program; what is left then runs undisturbed.
const MOVES_MAX: u32 = 200;

/// A program that was moved and ended as it does undisturbed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Agreement {
    pub moves: u32,
    pub trapped: bool,
    /// The most bytes that its frames took.
    pub frames_bytes_max: usize,
}

/// How often a program is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At every poll.
    Always,
    /// After up to this much fuel each time.
    Fuel(u64),
    /// So often in all, at moments spread over the whole run.
    Times(u32),
}

/// How a program ended and what it left.
struct Outcome {
    end: End,
    output: Vec<u8>,
    remains: Remains,
}

/// A program as it is and as a build.
pub struct Pair {
    plain: Module,
    build: Module,
}

impl Pair {
    /// Compiles a program both ways.
    pub fn new(engine: &Engine, module: &[u8]) -> Result<Self, String> {
        let build = rewrite(module).map_err(|reason| format!("it is not movable: {reason}"))?;
        let plain = Module::new(engine, module).map_err(|error| format!("the program does not compile: {error:#}"))?;
        let build = Module::new(engine, &build.module).map_err(|error| format!("the build does not compile: {error:#}"))?;
        Ok(Self { plain, build })
    }

    /// Runs it both ways, or says what is different.
    pub fn compare(&self, wasi: &Wasi, seed: u64, pace: Pace) -> Result<Agreement, String> {
        let expected = Machine::new(&self.plain, wasi.clone()).map(|mut machine| {
            let end = machine.run(Moment::Never, 0);
            Outcome { end, output: machine.output().to_vec(), remains: machine.remains() }
        });
        let (found, agreement) = moved(&self.build, wasi, seed, pace)?;
        let end = match &expected {
            Ok(outcome) => &outcome.end,
            Err(end) => end,
        };
        if found.end != *end {
            return Err(format!("it ends with {:?} instead of {end:?} after {} moves", found.end, agreement.moves));
        }
        // Nothing is left of a program whose start function traps.
        let Ok(expected) = expected else { return Ok(agreement) };
        if found.output != expected.output {
            return Err(format!("its output differs after {} moves", agreement.moves));
        }
        if found.remains.len() != expected.remains.len() {
            return Err("it exports something else".into());
        }
        match found.remains.iter().zip(&expected.remains).find(|(left, right)| left != right) {
            Some(((name, _), _)) => Err(format!("`{name}` differs after {} moves", agreement.moves)),
            None => Ok(agreement),
        }
    }
}

fn moved(build: &Module, wasi: &Wasi, seed: u64, pace: Pace) -> Result<(Outcome, Agreement), String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut agreement = Agreement::default();
    let fresh = || Machine::new(build, wasi.clone()).expect("builds have no start function");
    let mut fuel_left = 0;
    if let Pace::Times(_) = pace {
        let mut machine = fresh();
        machine.run(Moment::Never, 0);
        fuel_left = machine.fuel_used();
    }
    let mut machine = fresh();
    loop {
        let moment = match pace {
            Pace::Always | Pace::Fuel(_) if agreement.moves >= MOVES_MAX => Moment::Never,
            Pace::Always => Moment::AtOnce,
            Pace::Fuel(most) => Moment::After(random.random_range(1..=most)),
            Pace::Times(times) if agreement.moves >= times => Moment::Never,
            Pace::Times(times) => {
                let share = fuel_left / u64::from(times - agreement.moves + 1);
                Moment::After(random.random_range(1..=(2 * share).max(1)))
            }
        };
        // The flag is raised again and again, but for the first way, where a refused poll would be the last.
        let refusals = if matches!(pace, Pace::Fuel(_)) && random.random_ratio(1, 4) { random.random_range(0..4) } else { 0 };
        let end = machine.run(moment, refusals);
        if end != End::Suspended {
            if end == End::Done && machine.stack_pointer() != lull_engine::migratable::contract::STACK_BASE as i32 {
                return Err("frames are left on its stack".into());
            }
            agreement.trapped = matches!(end, End::Trap(_));
            let outcome = Outcome { end, output: machine.output().to_vec(), remains: machine.remains() };
            return Ok((outcome, agreement));
        }
        agreement.moves += 1;
        fuel_left = fuel_left.saturating_sub(machine.fuel_used());
        if random.random_ratio(1, 8) {
            machine.rewind(); // a snapshot in passing: the same instance goes on
        } else {
            let snapshot = machine.snapshot();
            agreement.frames_bytes_max = agreement.frames_bytes_max.max(snapshot.frames_bytes());
            machine = Machine::restore(build, &snapshot);
        }
    }
}
