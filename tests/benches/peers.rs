//! What a task costs in queues that people install from a package: beanstalkd with a log that is synchronised for each
//! write, and Gearman in memory. Their workers execute nothing; one thread submits, two work.
//!
//! The clients are a few lines over a socket, so that what is measured is the server and the protocol.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lull_tests::{cluster::wait_until, processes};

/// Submissions that are on their way without an answer.
const PIPELINED: u32 = 100;
/// Workers, each with a connection of its own.
const WORKERS: u32 = 2;

/// One peer's price of a task.
pub(crate) struct Price {
    pub cpu: Duration,
    pub wall: Duration,
}

/// A queue server, stopped when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts a program on a free port; none where it is not installed.
    fn start(program: &str, arguments: impl Fn(u16) -> Vec<String>) -> Option<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut command = Command::new(program);
        command.args(arguments(address.port())).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            started => started.expect("the server starts"),
        };
        let server = Self { process, address };
        wait_until("the server listens", || TcpStream::connect(address).is_ok(), || program.to_owned());
        Some(server)
    }

    fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_nodelay(true).expect("a socket of this machine");
        Connection { reader: BufReader::new(stream.try_clone().expect("a socket")), writer: stream }
    }

    /// Processor time and time of the server and of this process while `submit` and two `work` run, half of the tasks
    /// each.
    fn price(&self, tasks: u32, submit: fn(Connection, u32), work: fn(Connection, u32)) -> Price {
        let spent = || processes::cpu_of_tree(self.process.id()) + processes::cpu_of(std::process::id());
        let (before, began) = (spent(), Instant::now());
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| work(self.connect(), tasks / WORKERS));
            }
            submit(self.connect(), tasks);
        });
        Price { cpu: spent().saturating_sub(before), wall: began.elapsed() }
    }
}

struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Connection {
    fn say(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).expect("the server reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the server answers");
        line.trim_end().to_owned()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    fn say_gearman(&mut self, kind: u32, data: &[u8]) {
        self.say(&gearman_packet(kind, data));
    }

    /// The kind and the data of the next packet.
    fn hear_gearman(&mut self) -> (u32, Vec<u8>) {
        let header = self.bytes(12);
        let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        (number(4), self.bytes(number(8) as usize))
    }
}

/// beanstalkd with a log, `fsync` for each write; none where it is not installed.
pub(crate) fn beanstalkd(folder: &Path, tasks: u32) -> Option<Price> {
    let folder = folder.to_str().expect("a plain path").to_owned();
    let arguments =
        |port: u16| ["-l", "127.0.0.1", "-p", &port.to_string(), "-b", &folder, "-f", "0"].map(str::to_owned).to_vec();
    let server = Server::start("beanstalkd", arguments)?;
    Some(server.price(
        tasks,
        |mut connection, tasks| {
            for first in (0..tasks).step_by(PIPELINED as usize) {
                let batch = PIPELINED.min(tasks - first);
                connection.say(b"put 0 0 60 1\r\nx\r\n".repeat(batch as usize).as_slice());
                for _ in 0..batch {
                    let answer = connection.line();
                    assert!(answer.starts_with("INSERTED"), "{answer}");
                }
            }
        },
        |mut connection, tasks| {
            for _ in 0..tasks {
                connection.say(b"reserve\r\n");
                let answer = connection.line();
                let mut words = answer.split(' ');
                assert_eq!(words.next(), Some("RESERVED"), "{answer}");
                let id = words.next().expect("a number").to_owned();
                connection.line();
                connection.say(format!("delete {id}\r\n").as_bytes());
                assert_eq!(connection.line(), "DELETED");
            }
        },
    ))
}

const CAN_DO: u32 = 1;
const PRE_SLEEP: u32 = 4;
const NOOP: u32 = 6;
const JOB_CREATED: u32 = 8;
const GRAB_JOB: u32 = 9;
const NO_JOB: u32 = 10;
const JOB_ASSIGN: u32 = 11;
const WORK_COMPLETE: u32 = 13;
const SUBMIT_JOB_BG: u32 = 18;

fn gearman_packet(kind: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("a small packet");
    [b"\0REQ", kind.to_be_bytes().as_slice(), length.to_be_bytes().as_slice(), data].concat()
}

/// Gearman with its queue in memory: nothing survives it; none where it is not installed.
pub(crate) fn gearman(tasks: u32) -> Option<Price> {
    let arguments = |port: u16| ["-L", "127.0.0.1", "-p", &port.to_string(), "-l", "none"].map(str::to_owned).to_vec();
    let server = Server::start("gearmand", arguments)?;
    Some(server.price(
        tasks,
        |mut connection, tasks| {
            for first in (0..tasks).step_by(PIPELINED as usize) {
                let last = (first + PIPELINED).min(tasks);
                let submissions = (first..last).map(|task| gearman_packet(SUBMIT_JOB_BG, format!("noop\0{task}\0x").as_bytes()));
                connection.say(&submissions.collect::<Vec<_>>().concat());
                for _ in first..last {
                    assert_eq!(connection.hear_gearman().0, JOB_CREATED);
                }
            }
        },
        |mut connection, tasks| {
            connection.say_gearman(CAN_DO, b"noop");
            let mut done = 0;
            connection.say_gearman(GRAB_JOB, b"");
            while done < tasks {
                let (kind, data) = connection.hear_gearman();
                match kind {
                    JOB_ASSIGN => {
                        let handle = data.split(|byte| *byte == 0).next().expect("a handle");
                        connection.say_gearman(WORK_COMPLETE, &[handle, b"\0x"].concat());
                        done += 1;
                        if done < tasks {
                            connection.say_gearman(GRAB_JOB, b"");
                        }
                    }
                    NO_JOB => connection.say_gearman(PRE_SLEEP, b""),
                    NOOP => connection.say_gearman(GRAB_JOB, b""),
                    other => panic!("gearmand answers {other}"),
                }
            }
        },
    ))
}
