//! Connections: made from an ADO string, kept in a small pool, dropped whenever there is doubt about them.
//!
//! A connection is in the pool only between operations. Whoever takes one out puts it back after a complete answer;
//! on any timeout, cancellation or broken stream it is dropped, since half an answer cannot be told from the next one.

use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, Pool, RecycleError};
use tiberius::{Client, Config, Row, error::Error};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt as _};

use super::{
    error::{Fail, Purpose},
    statements,
};

/// The client on its socket.
pub type Connection = Client<Compat<TcpStream>>;

/// At once: the scheduler's turn, the lease, blobs on their way, and people who look.
const CONNECTIONS: usize = 8;
/// A connection that was idle for longer is asked whether it still lives before it carries a commit.
const IDLE_TRUSTED: Duration = Duration::from_secs(5);
/// Name resolution, TCP, TLS and login together.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(8);

/// Makes connections.
pub struct Manager {
    config: Config,
    /// `host:port`, for people.
    pub server: String,
}

impl Manager {
    /// From an ADO connection string.
    pub fn new(connection_string: &str) -> Result<Self, Fail> {
        let unusable = |words: String| Fail::Setup {
            words,
            hint: "write Server=tcp:HOST,1433;Database=NAME;User Id=LOGIN;Password=SECRET;Encrypt=true",
        };
        let mut config = Config::from_ado_string(connection_string)
            .map_err(|error| unusable(format!("the connection string is not understood: {error}")))?;
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
        Ok(Self { config, server })
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
        let mut connected = login(self.config.clone()).await;
        if let Err(Error::Routing { host, port }) = connected {
            let mut elsewhere = self.config.clone();
            elsewhere.host(&host);
            elsewhere.port(port);
            connected = login(elsewhere).await;
        }
        let fail = |error| Fail::of(error, Purpose::Read, &self.server);
        let mut connection = connected.map_err(fail)?;
        connection.simple_query(statements::SESSION).await.map_err(fail)?.into_results().await.map_err(fail)?;
        Ok(connection)
    }
}

async fn login(config: Config) -> tiberius::Result<Connection> {
    let socket = TcpStream::connect(config.get_addr()).await?;
    socket.set_nodelay(true)?;
    Client::connect(config, socket.compat_write()).await
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
pub fn pool(manager: Manager) -> Pool<Manager> {
    Pool::builder(manager).max_size(CONNECTIONS).build().expect("a pool without timeouts of its own needs no runtime")
}

/// A connection that is out of the pool; it goes back only when it is said to be sound.
pub struct Lease {
    object: Option<Object<Manager>>,
}

impl Lease {
    /// Takes one out of the pool, made anew if there is none.
    pub async fn take(pool: &Pool<Manager>) -> Result<Self, Fail> {
        let object = pool.get().await.map_err(|error| match error {
            managed::PoolError::Backend(fail) => fail,
            other => Fail::Connection { words: other.to_string(), server: pool.manager().server.clone(), purpose: Purpose::Read },
        })?;
        Ok(Self { object: Some(object) })
    }

    /// The connection.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.object.as_mut().expect("it is ours until it is given back").0
    }

    /// Puts it back: its last answer was read to the end.
    pub fn give_back(mut self) {
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
pub type Answer = Vec<Vec<Row>>;
