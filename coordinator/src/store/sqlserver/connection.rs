//! Connections: made from an ADO string, kept in a small pool, dropped whenever there is doubt about them.
//!
//! A connection is in the pool only between operations. Whoever takes one out puts it back after a complete answer;
//! on any timeout, cancellation or broken stream it is dropped, since half an answer cannot be told from the next one.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use deadpool::managed::{self, Metrics, Object, Pool, RecycleError};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tiberius::{Client, Config, Row, error::Error};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt as _};

use super::{
    error::{Fail, Purpose},
    statements,
};

/// The client on its socket.
pub(super) type Connection = Client<Compat<TcpStream>>;

/// At once: the scheduler's turn, the lease, blobs on their way, and people who look.
const CONNECTIONS: usize = 8;
/// A connection that was idle for longer is asked whether it still lives before it carries a commit.
const IDLE_TRUSTED: Duration = Duration::from_secs(5);
/// Name resolution, TCP, TLS and login together.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(8);

/// How long each address of a name is given before the next is tried beside it: RFC 8305 recommends it.
const ADDRESS_TIME: Duration = Duration::from_millis(250);
/// More addresses of one name are not tried: a listener has one in each subnet.
const ADDRESSES_MAX: usize = 16;

/// Makes connections.
pub(super) struct Manager {
    config: Config,
    /// Between one address of the server and the next.
    between: Duration,
    /// `host:port`, for people.
    pub server: String,
}

/// What is wrong with a connection string. The driver adds what programmers can do with it, and that is left out.
fn not_understood(error: &Error) -> String {
    let words = error.to_string();
    let words = words.split("hint:").next().unwrap_or_default();
    let words = words.strip_prefix("Conversion error: ").unwrap_or(words).trim_end_matches([' ', '.', ';', ':', '\n']);
    format!("the connection string is not understood: {words}")
}

impl Manager {
    /// From an ADO connection string.
    pub(super) fn new(connection_string: &str) -> Result<Self, Fail> {
        let unusable = |words: String| Fail::Setup {
            words,
            hint: "write Server=tcp:HOST,1433;Database=NAME;User Id=LOGIN;Password=SECRET;Encrypt=true, and put a value in single quotes \
                   that holds `;` or `=`",
        };
        let mut config = Config::from_ado_string(connection_string).map_err(|error| unusable(not_understood(&error)))?;
        // What the string says wins, but it seldom says this.
        if !connection_string.to_ascii_lowercase().replace(' ', "").contains("applicationname=") {
            config.application_name("Lull coordinator");
        }
        config.command_timeout(None);
        config.handshake_timeout(Some(CONNECT_TIME_MAX));
        let server = config.get_addr();
        if connection_string.contains('\\') && !connection_string.contains(',') {
            return Err(unusable("a named instance is found only by its port".into()));
        }
        // What the keyword promises elsewhere: all of them at once.
        let words = connection_string.to_ascii_lowercase().replace(' ', "");
        let at_once = ["multisubnetfailover=true", "multisubnetfailover=yes"].iter().any(|word| words.contains(word));
        Ok(Self { config, between: if at_once { Duration::ZERO } else { ADDRESS_TIME }, server })
    }

    async fn connect(&self) -> Result<Connection, Fail> {
        let late = Fail::Connection {
            words: format!("no connection within {}", lull_shared::amount::exact(CONNECT_TIME_MAX)),
            server: self.server.clone(),
            purpose: Purpose::Read,
        };
        // On the heap: the client's futures are so large that callers of callers would overflow a thread's stack.
        tokio::time::timeout(CONNECT_TIME_MAX, Box::pin(self.connect_now())).await.unwrap_or(Err(late))
    }

    async fn connect_now(&self) -> Result<Connection, Fail> {
        let mut connected = login(self.config.clone(), self.between).await;
        if let Err(Error::Routing { host, port }) = connected {
            let mut elsewhere = self.config.clone();
            elsewhere.host(&host);
            elsewhere.port(port);
            connected = login(elsewhere, self.between).await;
        }
        let fail = |error| Fail::of(error, Purpose::Read, &self.server);
        let mut connection = connected.map_err(fail)?;
        connection.simple_query(statements::SESSION).await.map_err(fail)?.into_results().await.map_err(fail)?;
        Ok(connection)
    }
}

async fn login(config: Config, between: Duration) -> tiberius::Result<Connection> {
    let addresses = tokio::net::lookup_host(config.get_addr()).await?.take(ADDRESSES_MAX).collect();
    let socket = race(addresses, between).await?;
    socket.set_nodelay(true)?;
    Client::connect(config, socket.compat_write()).await
}

/// The first of these addresses that takes a connection. A name may stand for several, of which one answers: the listener
/// of an availability group has an address in each subnet, and only that of the primary is there.
async fn race(addresses: Vec<SocketAddr>, between: Duration) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut racing: FuturesUnordered<_> = waiting.next().map(TcpStream::connect).into_iter().collect();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    while !racing.is_empty() {
        tokio::select! {
            connected = racing.next() => match connected {
                Some(Ok(socket)) => return Ok(socket),
                Some(Err(error)) => {
                    failed = error;
                    racing.extend(waiting.next().map(TcpStream::connect));
                }
                None => break,
            },
            () = tokio::time::sleep(between), if waiting.len() > 0 => racing.extend(waiting.next().map(TcpStream::connect)),
        }
    }
    Err(failed)
}

impl managed::Manager for Manager {
    type Type = (Connection, Instant);
    type Error = Fail;

    async fn create(&self) -> Result<Self::Type, Fail> {
        Ok((self.connect().await?, Instant::now()))
    }

    async fn recycle(&self, (connection, used): &mut Self::Type, _: &Metrics) -> managed::RecycleResult<Fail> {
        if used.elapsed() < IDLE_TRUSTED {
            return Ok(());
        }
        let fail = |error| RecycleError::Backend(Fail::of(error, Purpose::Read, &self.server));
        let answer =
            Box::pin(async { connection.simple_query("SELECT 1").await.map_err(fail)?.into_results().await.map_err(fail) });
        let late = || Fail::Deadline { seconds: IDLE_TRUSTED.as_secs(), purpose: Purpose::Read };
        tokio::time::timeout(IDLE_TRUSTED, answer).await.map_err(|_| RecycleError::Backend(late()))??;
        *used = Instant::now();
        Ok(())
    }
}

/// A pool of at most [`CONNECTIONS`].
pub(super) fn pool(manager: Manager) -> Pool<Manager> {
    Pool::builder(manager).max_size(CONNECTIONS).build().expect("a pool without timeouts of its own needs no runtime")
}

/// A connection that is out of the pool; it goes back only when it is said to be sound.
pub(super) struct Lease {
    object: Option<Object<Manager>>,
}

impl Lease {
    /// Takes one out of the pool, made anew if there is none.
    pub(super) async fn take(pool: &Pool<Manager>) -> Result<Self, Fail> {
        let object = pool.get().await.map_err(|error| match error {
            managed::PoolError::Backend(fail) => fail,
            other => Fail::Connection { words: other.to_string(), server: pool.manager().server.clone(), purpose: Purpose::Read },
        })?;
        Ok(Self { object: Some(object) })
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.object.as_mut().expect("it is ours until it is given back").0
    }

    /// Puts it back: its last answer was read to the end.
    pub(super) fn give_back(mut self) {
        if let Some(mut object) = self.object.take() {
            object.1 = Instant::now();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

/// All the rows that a batch answers with, one vector for each of its SELECTs.
pub(super) type Answer = Vec<Vec<Row>>;

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// A listener whose queue is full, so that the system leaves whoever comes next without an answer, as a dead machine
    /// does; and what fills it.
    async fn dead() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("it is bound");
        let mut filling = Vec::new();
        while let Ok(taken) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            filling.push(taken.expect("there is room"));
            assert!(filling.len() < 64, "the queue has an end");
        }
        (address, listener, filling)
    }

    #[test]
    fn what_a_driver_says_to_programmers_is_not_said_to_people() {
        for text in ["postgres://x", "Server", "Server=tcp:x;Password='a", "Server=tcp:x,notaport"] {
            let Err(Fail::Setup { words, hint }) = Manager::new(text) else { panic!("{text} is understood") };
            assert!(words.starts_with("the connection string is not understood: "), "{words}");
            assert!(!words.contains("hint") && !words.contains("Config") && words.len() < 160, "{words}");
            assert!(hint.starts_with("write Server=tcp:HOST,1433"), "{hint}");
        }
    }

    #[test]
    fn a_named_instance_needs_its_port_and_a_keyword_has_all_addresses_tried_at_once() {
        let made = |server: &str, more: &str| Manager::new(&format!("Server={server};User Id=x;Password=y;{more}"));
        for (server, understood) in [("tcp:host,1433", true), ("host", true), ("host\\DESKS,1433", true), ("host\\DESKS", false)]
        {
            assert_eq!(made(server, "").is_ok(), understood, "{server}");
        }
        let between = |more| made("tcp:host,1433", more).map(|manager| manager.between).ok();
        assert_eq!(between(""), Some(ADDRESS_TIME));
        assert_eq!(between("MultiSubnetFailover=True"), Some(Duration::ZERO));
        assert_eq!(between("multisubnetfailover = yes"), Some(Duration::ZERO));
        assert_eq!(between("MultiSubnetFailover=False"), Some(ADDRESS_TIME));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_dead_address_costs_less_than_a_second() {
        let (dead, _listener, _filling) = dead().await;
        let alive = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let alive_at = alive.local_addr().expect("it is bound");
        for between in [ADDRESS_TIME, Duration::ZERO] {
            let begun = Instant::now();
            let socket = race(vec![dead, alive_at], between).await.expect("the second answers");
            assert_eq!(socket.peer_addr().expect("it is connected"), alive_at);
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_passed_over_at_once() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let refused = nobody.local_addr().expect("it is bound");
        drop(nobody);
        let alive = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let alive_at = alive.local_addr().expect("it is bound");
        let long = Duration::from_secs(3600);
        assert_eq!(race(vec![refused, alive_at], long).await.expect("the second answers").peer_addr().ok(), Some(alive_at));
        assert_eq!(
            race(vec![refused, refused], long).await.expect_err("neither answers").kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert!(race(Vec::new(), long).await.is_err());
    }
}
