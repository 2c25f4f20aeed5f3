//! What is asked of the system: load, memory, power, what fills the screen, the network, a pending restart.

use std::{
    io,
    os::windows::io::{AsRawHandle as _, OwnedHandle},
    ptr,
    time::{Duration, Instant},
};

use lull_engine::windows::{done, owned, wide};
use lull_session::guard::Power;
use windows_sys::Win32::{
    Foundation::{ERROR_SUCCESS, FILETIME},
    Networking::WinSock::{NL_NETWORK_CONNECTIVITY_HINT, NetworkConnectivityCostHintFixed, NetworkConnectivityCostHintVariable},
    System::{
        LibraryLoader::{GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW},
        Power::{
            GetSystemPowerStatus, PowerClearRequest, PowerCreateRequest, PowerRequestSystemRequired, PowerSetRequest,
            SYSTEM_POWER_STATUS,
        },
        Registry::{HKEY, HKEY_LOCAL_MACHINE, KEY_QUERY_VALUE, KEY_WOW64_64KEY, RegCloseKey, RegOpenKeyExW},
        SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX},
        Threading::{GetCurrentProcess, GetProcessTimes, GetSystemTimes, POWER_REQUEST_CONTEXT_SIMPLE_STRING, REASON_CONTEXT},
    },
    UI::Shell::{QUNS_BUSY, QUNS_PRESENTATION_MODE, QUNS_RUNNING_D3D_FULL_SCREEN, SHQueryUserNotificationState},
};

/// How often what changes rarely is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// A `FILETIME` that counts how long something took.
fn length(time: FILETIME) -> Duration {
    let ticks = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_nanos(ticks.saturating_mul(100))
}

/// The processor time of this process since it started. What its executors had counts while they live, which is told
/// apart; what they had in their last moments counts as others' for one look.
pub(in crate::sensor) fn cpu_time() -> Duration {
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: it concerns this process only, and each of the others is a valid place.
    let told = unsafe { GetProcessTimes(GetCurrentProcess(), &mut created, &mut exited, &mut kernel, &mut user) };
    if told == 0 { Duration::ZERO } else { length(kernel) + length(user) }
}

/// The machine's counters, as they were at the last look.
pub(in crate::sensor) struct Counters {
    cores: usize,
    /// Of all processors together: at rest, and in all.
    times: (Duration, Duration),
    cpu_percent: f32,
    memory: MEMORYSTATUSEX,
}

impl Counters {
    /// The first look; or why it cannot be measured.
    pub(in crate::sensor) fn new() -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let failed = |error: io::Error| error.to_string();
        Ok(Self { cores, times: times().map_err(failed)?, cpu_percent: 0.0, memory: memory().map_err(failed)? })
    }

    /// Looks again. What cannot be had is as before.
    pub(in crate::sensor) fn refresh(&mut self) {
        if let Ok((rest, all)) = times() {
            let passed = all.saturating_sub(self.times.1);
            if !passed.is_zero() {
                let rested = rest.saturating_sub(self.times.0).as_secs_f32() / passed.as_secs_f32();
                self.cpu_percent = (100.0 * (1.0 - rested)).clamp(0.0, 100.0);
            }
            self.times = (rest, all);
        }
        self.memory = memory().unwrap_or(self.memory);
    }

    pub(in crate::sensor) fn cores(&self) -> usize {
        self.cores
    }

    /// The share of all processors that was used between the last two looks.
    pub(in crate::sensor) fn cpu_percent(&self) -> f32 {
        self.cpu_percent
    }

    /// What programs could still get without swapping.
    pub(in crate::sensor) fn memory_available_bytes(&self) -> u64 {
        self.memory.ullAvailPhys
    }

    pub(in crate::sensor) fn memory_bytes(&self) -> u64 {
        self.memory.ullTotalPhys
    }
}

fn times() -> io::Result<(Duration, Duration)> {
    let [mut rest, mut kernel, mut user] = [FILETIME::default(); 3];
    // SAFETY: each is a valid place.
    done(unsafe { GetSystemTimes(&mut rest, &mut kernel, &mut user) })?;
    // The kernel's time has the rest in it.
    Ok((length(rest), length(kernel) + length(user)))
}

fn memory() -> io::Result<MEMORYSTATUSEX> {
    let mut memory = MEMORYSTATUSEX { dwLength: size_of::<MEMORYSTATUSEX>() as u32, ..MEMORYSTATUSEX::default() };
    // SAFETY: the structure says how large it is.
    done(unsafe { GlobalMemoryStatusEx(&mut memory) })?;
    Ok(memory)
}

/// Where the power comes from. A machine that saves its battery is spared as one that runs on it.
pub(super) fn power() -> Power {
    const OFF: u8 = 0;
    const PERCENT_MAX: u8 = 100;
    let mut status = SYSTEM_POWER_STATUS::default();
    // SAFETY: the structure is a valid place.
    if unsafe { GetSystemPowerStatus(&mut status) } == 0 || status.ACLineStatus != OFF && status.SystemStatusFlag == 0 {
        return Power::Mains;
    }
    Power::Battery { percent: Some(status.BatteryLifePercent).filter(|percent| *percent <= PERCENT_MAX) }
}

type Hint = unsafe extern "system" fn(*mut NL_NETWORK_CONNECTIVITY_HINT) -> u32;

/// What is looked at now and then.
pub(super) struct Looks {
    has_desktop: bool,
    /// Windows has it since 2020.
    hint: Option<Hint>,
    looked: Option<Instant>,
    metered: bool,
    reboot: bool,
}

impl Looks {
    pub(super) fn new(has_desktop: bool) -> Self {
        Self { has_desktop, hint: hint(), looked: None, metered: false, reboot: false }
    }

    /// Whether a program fills the screen, or somebody presents. A service sees no screen.
    pub(super) fn full_screen(&self) -> bool {
        let mut state = 0;
        // SAFETY: the place is one for the answer.
        let asked = self.has_desktop && unsafe { SHQueryUserNotificationState(&mut state) } >= 0;
        asked && [QUNS_BUSY, QUNS_RUNNING_D3D_FULL_SCREEN, QUNS_PRESENTATION_MODE].contains(&state)
    }

    /// Whether the network costs by what is sent.
    pub(super) fn metered(&mut self) -> bool {
        self.look();
        self.metered
    }

    /// Whether Windows wants to be restarted.
    pub(super) fn reboot(&mut self) -> bool {
        self.look();
        self.reboot
    }

    fn look(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        self.metered = self.hint.is_some_and(is_metered);
        self.reboot = REBOOT.iter().any(|key| is_there(key));
    }
}

fn hint() -> Option<Hint> {
    // SAFETY: the names end in a zero; the library is the system's own and stays; the function of this name has this type.
    unsafe {
        let library = LoadLibraryExW(wide("iphlpapi.dll").as_ptr(), ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32);
        let function = GetProcAddress(library, c"GetNetworkConnectivityHint".as_ptr().cast())?;
        Some(std::mem::transmute::<unsafe extern "system" fn() -> isize, Hint>(function))
    }
}

fn is_metered(hint: Hint) -> bool {
    let mut told = NL_NETWORK_CONNECTIVITY_HINT::default();
    // SAFETY: the structure is a valid place.
    let asked = unsafe { hint(&mut told) };
    let costs = [NetworkConnectivityCostHintFixed, NetworkConnectivityCostHintVariable].contains(&told.ConnectivityCost);
    asked == ERROR_SUCCESS && (costs || told.Roaming || told.OverDataLimit)
}

/// Keys that are there while a restart is due.
const REBOOT: [&str; 2] = [
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
];

fn is_there(key: &str) -> bool {
    let mut opened: HKEY = ptr::null_mut();
    // SAFETY: the name ends in a zero, and what is opened is closed once.
    unsafe {
        let rights = KEY_QUERY_VALUE | KEY_WOW64_64KEY;
        let found = RegOpenKeyExW(HKEY_LOCAL_MACHINE, wide(key).as_ptr(), 0, rights, &mut opened) == ERROR_SUCCESS;
        if found {
            RegCloseKey(opened);
        }
        found
    }
}

/// Keeps the machine from going to sleep by itself while work runs, where the policy says so.
#[derive(Default)]
pub(super) struct Awake {
    request: Option<OwnedHandle>,
}

impl Awake {
    pub(super) fn set(&mut self, wanted: bool) {
        match (wanted, &self.request) {
            (true, None) => {
                let asked = request().inspect_err(|error| tracing::debug!(%error, "this machine cannot be kept awake"));
                self.request = asked.ok();
            }
            (false, Some(request)) => {
                // SAFETY: the handle is that of the request.
                unsafe { PowerClearRequest(request.as_raw_handle(), PowerRequestSystemRequired) };
                self.request = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

fn request() -> io::Result<OwnedHandle> {
    const VERSION: u32 = 0;
    let mut why = wide("Lull runs tasks");
    let mut context =
        REASON_CONTEXT { Version: VERSION, Flags: POWER_REQUEST_CONTEXT_SIMPLE_STRING, ..REASON_CONTEXT::default() };
    context.Reason.SimpleReasonString = why.as_mut_ptr();
    // SAFETY: the structure is whole, and its text ends in a zero and is copied.
    let request = owned(unsafe { PowerCreateRequest(&context) })?;
    // SAFETY: the handle is open.
    done(unsafe { PowerSetRequest(request.as_raw_handle(), PowerRequestSystemRequired) })?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_processors_and_memory() {
        let mut counters = Counters::new().expect("it can be measured");
        counters.refresh();
        assert!(counters.cores() >= 1 && counters.memory_bytes() > counters.memory_available_bytes() / 2);
        assert!((0.0..=100.0).contains(&counters.cpu_percent()));
    }

    #[test]
    fn a_key_that_is_not_there_is_no_restart() {
        assert!(is_there("SOFTWARE") && !is_there(r"SOFTWARE\Lull\Nothing"));
    }
}
