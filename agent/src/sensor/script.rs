//! A machine and an owner that do as they are told: for tests.
//!
//! `lull-agent run --sensor script:PATH`. PATH is a file, whose lines are followed as they are appended, or else the name of
//! a local socket that the agent makes, and that answers each line with `ok` or with what is wrong with it. Each line is a
//! JSON object with any of the keys of [`Line`]; what it does not name stays as it was. At the beginning nobody has used
//! the machine for a day, and it has mains power.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use interprocess::local_socket::{
    GenericFilePath, ListenerOptions, ToFsName as _,
    tokio::{Listener, Stream, prelude::*},
};
use lull_session::guard::{Announcement, Power, Sample};
use lull_shared::{
    hours::{ParseHoursError, WeekMinute},
    policy::Span,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};

use super::{Sensor, SensorError, Source, local, word::Teller};

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// A line of a socket; all keys together are far below it.
const LINE_BYTES_MAX: u64 = 4 * 1024;
/// A day without the owner.
const LONG_AGO: Duration = Duration::from_secs(24 * 60 * 60);

/// What happens now.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Line {
    /// `true`: keyboard or mouse moves.
    input: bool,
    /// `"10m"`: the last input was so long ago.
    idle: Option<Span>,
    /// Whether anything sees input.
    sees: Option<bool>,
    /// The share of the processors that others use, in percent.
    cpu_others: Option<u8>,
    /// Bytes.
    memory_available: Option<u64>,
    /// Percent of the time.
    memory_stalled: Option<u8>,
    /// Whether there is mains power, and the charge of the battery in percent.
    mains: Option<bool>,
    charge: Option<u8>,
    lid_closed: Option<bool>,
    full_screen: Option<bool>,
    metered: Option<bool>,
    reboot: Option<bool>,
    celsius: Option<u8>,
    /// `"mon 14:00"`: what the machine's clock shows, and goes on showing.
    local: Option<String>,
    /// `"sleep"`, `"shutdown"` or `"awake"`.
    announce: Option<Announced>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Announced {
    Sleep,
    Shutdown,
    Awake,
}

/// What was said so far.
struct State {
    sample: Sample,
    sees: bool,
    /// The last input, if it was on this script; else a rest that was going on already.
    input: Result<Instant, (Duration, Instant)>,
    charge: Option<u8>,
    local: Option<WeekMinute>,
}

/// The scripted sensor.
pub(super) struct Script {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Script {
    /// Follows the file, or listens on the socket.
    pub(super) fn open(path: &Path, teller: Teller) -> Result<Self, SensorError> {
        let rest = Err((LONG_AGO, Instant::now()));
        let state = State { sample: Sample::QUIET, sees: true, input: rest, charge: None, local: None };
        let state = Arc::new(Mutex::new(state));
        let stage = Stage { state: state.clone(), teller };
        let failed = |source| SensorError::Script { path: path.to_owned(), source };
        if path.is_file() {
            let file = File::open(path).map_err(failed)?;
            tokio::spawn(follow(BufReader::new(file), stage));
        } else {
            let name = path.to_fs_name::<GenericFilePath>().map_err(failed)?;
            let listener = ListenerOptions::new().name(name).try_overwrite(true).create_tokio().map_err(failed)?;
            tokio::spawn(listen(listener, stage));
        }
        Ok(Self { path: path.to_owned(), state })
    }
}

impl Sensor for Script {
    fn sample(&mut self, _executors: Duration) -> Sample {
        let state = lock(&self.state);
        let idle = match state.input {
            Ok(at) => at.elapsed(),
            Err((rest, since)) => rest + since.elapsed(),
        };
        Sample { idle: state.sees.then_some(idle), local: state.local.unwrap_or_else(local), ..state.sample }
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source { name: "script".into(), about: format!("whatever {} says", self.path.display()), missing: None }]
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where lines take effect.
#[derive(Clone)]
struct Stage {
    state: Arc<Mutex<State>>,
    teller: Teller,
}

impl Stage {
    /// Lets a line take effect; the error is in words.
    fn play(&self, line: &str) -> Result<(), String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let local = line.local.as_deref().map(str::parse).transpose().map_err(|error: ParseHoursError| error.to_string())?;
        lock(&self.state).take(&line, local);
        if let Some(announced) = line.announce {
            let announcement = match announced {
                Announced::Sleep => Announcement::Sleep,
                Announced::Shutdown => Announcement::Shutdown,
                Announced::Awake => Announcement::Awake,
            };
            self.teller.announce(announcement, None);
        }
        match line.input {
            true => self.teller.input(),
            false => self.teller.look(),
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, line: &Line, local: Option<WeekMinute>) {
        fn set<T: Copy>(place: &mut T, value: Option<T>) {
            *place = value.unwrap_or(*place);
        }
        if line.input {
            self.input = Ok(Instant::now());
        }
        if let Some(idle) = line.idle {
            self.input = Err((idle.duration(), Instant::now()));
        }
        set(&mut self.sees, line.sees);
        self.local = local.or(self.local);
        let sample = &mut self.sample;
        set(&mut sample.cpu_others_percent, line.cpu_others);
        set(&mut sample.memory_available_bytes, line.memory_available);
        set(&mut sample.memory_stalled_percent, line.memory_stalled);
        set(&mut sample.lid_closed, line.lid_closed);
        set(&mut sample.full_screen, line.full_screen);
        set(&mut sample.metered, line.metered);
        set(&mut sample.reboot, line.reboot);
        sample.celsius = line.celsius.or(sample.celsius);
        self.charge = line.charge.or(self.charge);
        let mains = line.mains.unwrap_or(sample.power == Power::Mains);
        sample.power = if mains { Power::Mains } else { Power::Battery { percent: self.charge } };
    }
}

async fn follow(mut file: BufReader<File>, stage: Stage) {
    let mut line = String::new();
    loop {
        match file.read_line(&mut line) {
            Ok(read) if read > 0 && line.ends_with('\n') => {
                if let Err(error) = stage.play(&line) {
                    tracing::warn!(error, line = line.trim(), "the script says what is not understood");
                }
                line.clear();
            }
            // The rest of a line that is being written comes later.
            Ok(_) => sleep(LOOK).await,
            Err(error) => return tracing::warn!(%error, "the script cannot be read any more"),
        }
    }
}

async fn listen(listener: Listener, stage: Stage) {
    loop {
        match listener.accept().await {
            Ok(stream) => drop(tokio::spawn(converse(stream, stage.clone()))),
            Err(error) => return tracing::warn!(%error, "the script takes nobody any more"),
        }
    }
}

async fn converse(stream: Stream, stage: Stage) -> io::Result<()> {
    let (mut reader, mut writer) = (tokio::io::BufReader::new(&stream), &stream);
    loop {
        let mut line = String::new();
        if (&mut reader).take(LINE_BYTES_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = stage.play(&line).err().unwrap_or_else(|| "ok".into());
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::{Told, Word, words};

    fn stage() -> (Stage, Script, Told) {
        let rest = Err((LONG_AGO, Instant::now()));
        let state = State { sample: Sample::QUIET, sees: true, input: rest, charge: None, local: None };
        let state = Arc::new(Mutex::new(state));
        let (teller, told) = words();
        (Stage { state: state.clone(), teller }, Script { path: "x".into(), state }, told)
    }

    #[test]
    fn a_line_says_what_happens_and_all_else_stays_as_it_was() {
        let (stage, mut script, told) = stage();
        let play = |line: &str| stage.play(line).expect(line);
        play(r#"{"mains": false, "charge": 40, "local": "mon 14:00"}"#);
        play(r#"{"input": true, "announce": "sleep"}"#);
        let sample = script.sample(Duration::ZERO);
        assert_eq!((sample.power, sample.local.to_string().as_str()), (Power::Battery { percent: Some(40) }, "mon 14:00"));
        assert!(sample.idle.is_some_and(|idle| idle < LONG_AGO));
        assert!(matches!(told.take(), Some(Word::Input)));
        assert!(matches!(told.take(), Some(Word::Announced(Announcement::Sleep, None))));
        assert!(matches!(told.take(), Some(Word::Look)));
        play(r#"{"idle": "20m", "sees": false}"#);
        assert_eq!(script.sample(Duration::ZERO).idle, None);
        assert!(stage.play(r#"{"inputs": 1}"#).is_err_and(|error| error.contains("unknown field")));
        assert!(stage.play(r#"{"local": "noon"}"#).is_err());
    }

    #[tokio::test]
    async fn lines_that_are_appended_to_a_file_take_effect() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("script");
        let mut file = File::create(&path).expect("a file");
        let (teller, told) = words();
        let mut script = Script::open(&path, teller).expect("it can be followed");
        writeln!(file, r#"{{"full_screen": true}}"#).expect("written");
        assert!(matches!(told.next().await, Word::Look));
        assert!(script.sample(Duration::ZERO).full_screen);
    }
}
