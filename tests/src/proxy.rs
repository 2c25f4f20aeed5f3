//! A cable that can be cut: a TCP proxy on loopback between an agent and its coordinator.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a pump looks at the cable's state.
const LOOK: Duration = Duration::from_millis(20);

/// What the cable does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cable {
    /// Carries everything.
    Whole,
    /// Connections break, and new ones with them.
    Cut,
    /// Carries nothing and says nothing: what is sent stays on the way.
    Stalled,
}

impl Cable {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Whole,
            1 => Self::Cut,
            _ => Self::Stalled,
        }
    }
}

/// The proxy; its threads end with the test's process.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<AtomicU8>,
}

impl Proxy {
    /// A whole cable to this port on loopback.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(AtomicU8::new(Cable::Whole as u8));
        let seen = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if Cable::of(seen.load(Ordering::Relaxed)) == Cable::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let seen = seen.clone();
                    thread::spawn(move || pump(from, to, &seen));
                }
            }
        });
        Self { address, state }
    }

    /// Where agents find the coordinator behind it.
    pub fn multiaddr(&self) -> String {
        format!("/ip4/{}/tcp/{}", self.address.ip(), self.address.port())
    }

    pub fn set(&self, cable: Cable) {
        self.state.store(cable as u8, Ordering::Relaxed);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    from.set_read_timeout(Some(LOOK)).expect("a time that is not zero");
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match Cable::of(state.load(Ordering::Relaxed)) {
            Cable::Cut => break,
            Cable::Stalled => {
                thread::sleep(LOOK);
                continue;
            }
            Cable::Whole => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) if to.write_all(&buffer[..read]).is_ok() => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => break,
        }
    }
    // The other side may have gone.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
