//! Real processes on loopback: coordinators and agents in a folder of their own, driven by the command line.
//!
//! Everything is waited for by its effect and with a deadline; nothing sleeps for a while and hopes.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything in a test may take before it counts as never. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// The pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What is tested: `lull` and `lull-agent`.
#[derive(Clone, Copy)]
pub struct Programs {
    pub lull: &'static str,
    pub agent: &'static str,
}

/// The coordinator that has the store in its data folder; others share it.
pub const FIRST: &str = "server";

/// Ports that must stay free from when they are chosen until a coordinator listens there, over its restarts too: below those
/// that the kernel gives to connections and to listeners without a choice.
const PORTS: std::ops::RangeInclusive<u16> = 10_000..=32_000;
const PORTS_TRIED_MAX: usize = 1_000;

/// Coordinators, agents and their folder. Dropping it kills everything.
pub struct Cluster {
    programs: Programs,
    folder: TempDir,
    servers: Vec<Server>,
    /// The coordinator that commands are told of.
    asked: &'static str,
    agents: Vec<Agent>,
    /// What all of them write down.
    log: &'static str,
}

/// A coordinator of a cluster.
struct Server {
    name: &'static str,
    process: Option<Process>,
}

/// An agent of a cluster.
pub struct Agent {
    pub name: String,
    data: PathBuf,
    process: Option<Process>,
}

/// A child that is killed when it is dropped.
struct Process {
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command said and how it ended.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The data on standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {}\n{}", self.out, self.err))
    }

    /// Checks that the command succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }
}

impl Cluster {
    /// A running coordinator without agents.
    pub fn start(programs: Programs) -> Self {
        Self::start_logging(programs, "info")
    }

    /// The same, and all its programs write down what this filter says.
    pub fn start_logging(programs: Programs, log: &'static str) -> Self {
        let mut cluster = Self { log, ..Self::prepared(programs) };
        cluster.start_server();
        cluster
    }

    /// A folder in which nothing runs yet.
    pub fn prepared(programs: Programs) -> Self {
        let folder = tempfile::Builder::new().prefix("lull-test-").tempdir().expect("a folder for the test");
        Self {
            programs,
            folder,
            servers: vec![Server { name: FIRST, process: None }],
            asked: FIRST,
            agents: Vec::new(),
            log: "info",
        }
    }

    /// A file in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the coordinator (again) on the data it left, and waits until it leads.
    pub fn start_server(&mut self) {
        self.launch_server(FIRST);
        let log = self.log_of(FIRST);
        wait_until("the coordinator leads", || self.try_lull(&["status", "-o", "json"]).code == 0, || read(&log));
        // Tests run at any time of the week; those about hours and owners say so.
        self.lull(&["policy", "set", "--unrestricted"]);
    }

    /// Sets up a further coordinator as an administrator does, and starts it.
    pub fn add_server(&mut self, name: &'static str) {
        let (secret, data) = (self.path("network.secret"), self.path(name));
        let first = self.path(FIRST);
        for (what, data) in [("export", &first), ("import", &data)] {
            let arguments = ["server", what, "--data", text(data), text(&secret)];
            said(&mut self.command(self.programs.lull, &arguments)).ok();
        }
        fs::remove_file(secret).expect("used");
        self.servers.push(Server { name, process: None });
        self.launch_server(name);
    }

    /// Starts a coordinator that leads or stands by; returns when it answers.
    pub fn launch_server(&mut self, name: &'static str) {
        self.launch_server_with(name, &[]);
    }

    /// The same with these variables in its environment.
    pub fn launch_server_with(&mut self, name: &'static str, variables: &[(&str, &str)]) {
        let data = self.path(name);
        // The old address must not be taken for the new one.
        let _ = fs::remove_file(data.join("http.address"));
        let (mesh, store) = (self.mesh_address(name), format!("sqlite:{}", text(&self.path(FIRST))));
        let run = ["server", "run", "--name", name, "--data", text(&data), "--store", &store, "--listen", &mesh];
        let announced = fs::read_to_string(self.path(&format!("{name}.announce"))).unwrap_or_default();
        let announce: &[&str] = if announced.is_empty() { &[] } else { &["--announce", &announced] };
        let arguments = [run.as_slice(), &["--http", "127.0.0.1:0"], announce].concat();
        let process = self.spawn_with(self.programs.lull, name, &arguments, variables);
        self.server(name).process = Some(process);
        let log = self.log_of(name);
        wait_until("the coordinator answers", || data.join("http.address").exists(), || read(&log));
    }

    /// Agents are told that a coordinator is to be found here instead of where it listens; before it is started.
    pub fn announce(&self, name: &str, address: &str) {
        fs::write(self.path(&format!("{name}.announce")), address).expect("kept");
    }

    /// Commands go to this coordinator from now on.
    pub fn ask(&mut self, name: &'static str) {
        self.asked = name;
    }

    fn server(&mut self, name: &str) -> &mut Server {
        self.servers.iter_mut().find(|server| server.name == name).expect("a coordinator of this cluster")
    }

    /// Where a coordinator or an agent writes what it logs.
    pub fn log_of(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    /// The address agents know stays the same over restarts.
    pub fn mesh_address(&self, name: &str) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.mesh_port(name))
    }

    /// The port that a coordinator listens on for agents.
    pub fn mesh_port(&self, name: &str) -> u16 {
        let kept = self.path(&format!("{name}.port"));
        let port = fs::read_to_string(&kept).unwrap_or_else(|_| {
            let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
            let port = std::iter::repeat_with(|| rand::random_range(PORTS)).take(PORTS_TRIED_MAX).find(free);
            let port = port.expect("a free port").to_string();
            fs::write(&kept, &port).expect("kept");
            port
        });
        port.parse().expect("a port")
    }

    /// `kill -9` of the first coordinator.
    pub fn kill_server(&mut self) {
        self.kill_server_named(FIRST);
    }

    /// `kill -9` of a coordinator.
    pub fn kill_server_named(&mut self, name: &str) {
        self.server(name).process = None;
    }

    /// The process of a coordinator.
    pub fn server_pid(&self, name: &str) -> u32 {
        let server = self.servers.iter().find(|server| server.name == name).expect("a coordinator of this cluster");
        server.process.as_ref().expect("it runs").child.id()
    }

    /// Enrols a machine and starts its agent; returns when the coordinator sees it.
    pub fn add_agent(&mut self, name: &str, slots: u16, labels: &[&str]) {
        self.enrol_agent(name, slots, labels);
        self.start_agent(name);
    }

    /// Enrols a machine.
    pub fn enrol_agent(&mut self, name: &str, slots: u16, labels: &[&str]) {
        let token = self.join_token(1);
        let data = self.path(name);
        let mut join = vec!["join", &token, "--name", name];
        for label in labels {
            join.extend(["--label", label]);
        }
        self.agent_says(name, &join).ok();
        fs::write(data.join("slots"), slots.to_string()).expect("kept");
        self.agents.push(Agent { name: name.to_owned(), data, process: None });
    }

    /// A join token for this many machines.
    pub fn join_token(&self, uses: u32) -> String {
        let made = self.lull(&["token", "create", "--uses", &uses.to_string(), "-o", "json"]).json();
        made["text"].as_str().unwrap_or_else(|| panic!("no token in {made}")).to_owned()
    }

    /// Starts an enrolled agent (again); returns when the coordinator sees it.
    pub fn start_agent(&mut self, name: &str) {
        self.launch_agent(name);
        let log = self.log_of(name);
        wait_until(&format!("{name} is connected"), || self.agent_connected(name), || read(&log));
    }

    /// Starts an enrolled agent (again), on a machine that does as [`Self::owner`] says.
    pub fn launch_agent(&mut self, name: &str) {
        let script = format!("script:{}", text(&self.path(name).join("owner.sock")));
        self.launch_agent_on(name, &script, &[]);
    }

    /// Starts an enrolled agent (again) with this sensor and these variables in its environment.
    pub fn launch_agent_on(&mut self, name: &str, sensor: &str, variables: &[(&str, &str)]) {
        let agent = self.agents.iter().position(|agent| agent.name == name).expect("an agent of this cluster");
        let data = self.agents[agent].data.clone();
        let slots = fs::read_to_string(data.join("slots")).expect("kept");
        // Other programs on the machine under test neither pause nor starve the agent.
        let quiet = ["--mdns", "false", "--cpu-pause-percent", "0", "--memory-free-min", "0B", "--priority", "normal"];
        let run = ["--data", text(&data), "run", "--slots", &slots, "--sensor", sensor];
        let arguments = [run.as_slice(), quiet.as_slice()].concat();
        let process = self.spawn_with(self.programs.agent, name, &arguments, variables);
        self.agents[agent].process = Some(process);
    }

    /// Whether the coordinator has an open stream with an agent.
    pub fn agent_connected(&self, name: &str) -> bool {
        let said = self.try_lull(&["agent", "show", name, "-o", "json"]);
        said.code == 0 && !said.json()["connected"].is_null()
    }

    /// `kill -9` of an agent; its executors die with it.
    pub fn kill_agent(&mut self, name: &str) {
        let agent = self.agents.iter_mut().find(|agent| agent.name == name).expect("an agent of this cluster");
        agent.process = None;
    }

    /// Waits for an agent's process to end by itself; its exit code.
    pub fn agent_ends(&mut self, name: &str) -> Option<i32> {
        let agent = self.agents.iter_mut().find(|agent| agent.name == name).expect("an agent of this cluster");
        let process = std::cell::RefCell::new(agent.process.take().expect("it runs"));
        let ended = || process.borrow_mut().child.try_wait().expect("our own child");
        wait_until(&format!("{name} ends"), || ended().is_some(), || read(&self.log_of(name)));
        ended().and_then(|status| status.code())
    }

    /// The process of an agent.
    pub fn agent_pid(&self, name: &str) -> u32 {
        let agent = self.agents.iter().find(|agent| agent.name == name).expect("an agent of this cluster");
        agent.process.as_ref().expect("it runs").child.id()
    }

    /// The coordinator and the agents that run, each with its process.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let servers = self.servers.iter();
        let servers = servers.filter_map(|server| Some(("coordinator".to_owned(), server.process.as_ref()?.child.id())));
        let agents = self.agents.iter();
        let agents = agents.filter_map(|agent| Some((agent.name.clone(), agent.process.as_ref()?.child.id())));
        servers.chain(agents).collect()
    }

    /// Where the HTTP interface is.
    pub fn url(&self) -> String {
        fs::read_to_string(self.path(self.asked).join("http.address")).expect("an address").trim().to_owned()
    }

    /// The token of the data folder's owner.
    pub fn admin_token(&self) -> String {
        fs::read_to_string(self.path("server/admin.token")).expect("a token").trim().to_owned()
    }

    /// Runs `lull` with these arguments and expects success.
    pub fn lull(&self, arguments: &[&str]) -> Said {
        self.try_lull(arguments).ok()
    }

    /// Runs `lull` with these arguments.
    pub fn try_lull(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(self.programs.lull, arguments))
    }

    /// Runs `lull-agent` on the data of one machine.
    pub fn agent_says(&self, name: &str, arguments: &[&str]) -> Said {
        let data = self.path(name);
        said(&mut self.command(self.programs.agent, &[&["--data", text(&data)], arguments].concat()))
    }

    /// The owner of an agent's machine, or the machine itself, does what a line of the scripted sensor says.
    pub fn owner(&self, name: &str, line: &str) {
        let path = self.path(name).join("owner.sock");
        let mut stream = UnixStream::connect(path).expect("the agent has a scripted sensor");
        stream.write_all(format!("{line}\n").as_bytes()).expect("it listens");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("it answers");
        assert_eq!(answer, "ok\n", "{line}");
    }

    /// A job's result as JSON, by `job show`.
    pub fn job(&self, job: &str) -> Value {
        self.lull(&["job", "show", job, "-o", "json"]).json()
    }

    /// Waits until a look at a job satisfies a condition.
    pub fn wait_for_job(&self, job: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        wait_until(&format!("{job}: {what}"), || condition(&self.job(job)), || self.job(job).to_string());
        self.job(job)
    }

    /// The command with this cluster's settings in its environment.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        // Another coordinator has an administrator's token of its own only once it has led.
        if self.asked != FIRST {
            command.env("LULL_SERVER", self.url()).env("LULL_TOKEN", self.admin_token());
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("LULL_DATA", self.path(FIRST))
            .env("NO_COLOR", "1");
        command
    }

    fn spawn_with(&self, program: &str, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
        let log = self.log_of(name);
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let child = self
            .command(program, arguments)
            .env("LULL_LOG", self.log)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Process { child }
    }
}

/// A module in WebAssembly text form, as a file in `folder`.
pub fn module(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(format!("{name}.wasm"));
    fs::write(&path, wat::parse_str(text).expect("valid module text")).expect("written");
    path
}

/// A shipped or fixture function under `tests/functions`.
pub fn functions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("functions")
}

/// The path as text; paths of tests are plain.
pub fn text<P: AsRef<OsStr> + ?Sized>(path: &P) -> &str {
    path.as_ref().to_str().expect("a plain path")
}

/// Waits for a condition; after [`PATIENCE`] the test fails with what `explain` knows.
pub fn wait_until(what: &str, condition: impl Fn() -> bool, explain: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}\n{}", explain());
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
