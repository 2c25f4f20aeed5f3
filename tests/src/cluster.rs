//! Real processes on loopback: a coordinator and agents in a folder of their own, driven by the command line.
//!
//! Everything is waited for by its effect and with a deadline; nothing sleeps for a while and hopes.

use std::{
    ffi::OsStr,
    fs,
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

/// A coordinator, its agents and their folder. Dropping it kills everything.
pub struct Cluster {
    programs: Programs,
    folder: TempDir,
    server: Option<Process>,
    agents: Vec<Agent>,
}

/// An agent of a cluster.
pub struct Agent {
    pub name: String,
    data: PathBuf,
    process: Option<Process>,
}

/// A child that is killed when it is dropped, with the file that its words go to.
struct Process {
    child: Child,
    log: PathBuf,
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
        let folder = tempfile::Builder::new().prefix("lull-test-").tempdir().expect("a folder for the test");
        let mut cluster = Self { programs, folder, server: None, agents: Vec::new() };
        cluster.start_server();
        cluster
    }

    /// A file in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the coordinator (again) on the data it left.
    pub fn start_server(&mut self) {
        let data = self.path("server");
        // The old address must not be taken for the new one.
        let _ = fs::remove_file(data.join("http.address"));
        let mesh = self.mesh_address();
        let arguments = ["server", "run", "--data", text(&data), "--listen", &mesh, "--http", "127.0.0.1:0"];
        let process = self.spawn(self.programs.lull, "server", &arguments);
        let log = process.log.clone();
        self.server = Some(process);
        let ready = || data.join("http.address").exists() && self.try_lull(&["status", "-o", "json"]).code == 0;
        wait_until("the coordinator answers", ready, || fs::read_to_string(&log).unwrap_or_default());
    }

    /// The address agents know stays the same over restarts.
    fn mesh_address(&self) -> String {
        let kept = self.path("mesh.port");
        let port = fs::read_to_string(&kept).unwrap_or_else(|_| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("an address").port().to_string();
            fs::write(&kept, &port).expect("kept");
            port
        });
        format!("/ip4/127.0.0.1/tcp/{port}")
    }

    /// `kill -9` of the coordinator.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// Enrols a machine and starts its agent; returns when the coordinator sees it.
    pub fn add_agent(&mut self, name: &str, slots: u16, labels: &[&str]) {
        let token = self.join_token(1);
        let data = self.path(name);
        let mut join = vec!["join", &token, "--name", name];
        for label in labels {
            join.extend(["--label", label]);
        }
        self.agent_says(name, &join).ok();
        fs::write(data.join("slots"), slots.to_string()).expect("kept");
        self.agents.push(Agent { name: name.to_owned(), data, process: None });
        self.start_agent(name);
    }

    /// A join token for this many machines.
    pub fn join_token(&self, uses: u32) -> String {
        let made = self.lull(&["token", "create", "--uses", &uses.to_string(), "-o", "json"]).json();
        made["text"].as_str().unwrap_or_else(|| panic!("no token in {made}")).to_owned()
    }

    /// Starts an enrolled agent (again); returns when the coordinator sees it.
    pub fn start_agent(&mut self, name: &str) {
        let agent = self.agents.iter().position(|agent| agent.name == name).expect("an agent of this cluster");
        let data = self.agents[agent].data.clone();
        let slots = fs::read_to_string(data.join("slots")).expect("kept");
        // Other programs on the machine under test neither pause nor starve the agent.
        let quiet = ["--mdns", "false", "--cpu-pause-percent", "0", "--memory-free-min", "0B", "--priority", "normal"];
        let run = ["--data", text(&data), "run", "--slots", &slots];
        let arguments = [run.as_slice(), quiet.as_slice()].concat();
        let process = self.spawn(self.programs.agent, name, &arguments);
        let log = process.log.clone();
        self.agents[agent].process = Some(process);
        wait_until(
            &format!("{name} is connected"),
            || self.agent_connected(name),
            || fs::read_to_string(&log).unwrap_or_default(),
        );
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

    /// The process of an agent.
    pub fn agent_pid(&self, name: &str) -> u32 {
        let agent = self.agents.iter().find(|agent| agent.name == name).expect("an agent of this cluster");
        agent.process.as_ref().expect("it runs").child.id()
    }

    /// The coordinator and the agents that run, each with its process.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let server = self.server.iter().map(|server| ("coordinator".to_owned(), server.child.id()));
        let agents = self.agents.iter();
        let agents = agents.filter_map(|agent| Some((agent.name.clone(), agent.process.as_ref()?.child.id())));
        server.chain(agents).collect()
    }

    /// Where the HTTP interface is.
    pub fn url(&self) -> String {
        fs::read_to_string(self.path("server/http.address")).expect("an address").trim().to_owned()
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
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("LULL_DATA", self.path("server"))
            .env("NO_COLOR", "1");
        command
    }

    fn spawn(&self, program: &str, name: &str, arguments: &[&str]) -> Process {
        let log = self.path(&format!("{name}.log"));
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let child = self
            .command(program, arguments)
            .env("LULL_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Process { child, log }
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

fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
