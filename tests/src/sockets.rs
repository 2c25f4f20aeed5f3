//! What this process's TCP connections have carried, as the kernel counts it.

use std::{
    collections::BTreeMap,
    fs, mem,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use rustix::net::getpeername;

/// Where `tcpi_bytes_acked` and `tcpi_bytes_received` stand in the kernel's `struct tcp_info`.
const BYTES_ACKED_AT: usize = 120;
const BYTES_RECEIVED_AT: usize = 128;

/// Bytes of payload over TCP, without headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Sent, and acknowledged by the other end.
    pub sent: u64,
    pub received: u64,
}

/// What each of this process's open connections to a local port has carried, by its descriptor.
pub fn carried_to(port: u16) -> BTreeMap<RawFd, Carried> {
    let entries = fs::read_dir("/proc/self/fd").expect("Linux");
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    numbers.filter_map(|number| Some((number, carried(number, port)?))).collect()
}

/// None for whatever is not a connection to that port.
fn carried(number: RawFd, port: u16) -> Option<Carried> {
    // SAFETY: the number was just listed as open; should it have been closed since, the calls below return an error.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let peer = getpeername(descriptor).ok()??;
    let peer = std::net::SocketAddr::try_from(peer).ok()?;
    if peer.port() != port {
        return None;
    }
    let mut info = [0_u8; 256];
    let mut length = libc::socklen_t::try_from(mem::size_of_val(&info)).ok()?;
    // SAFETY: the buffer and its length are valid for the call, which writes at most that many bytes.
    let asked = unsafe {
        libc::getsockopt(
            descriptor.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast::<libc::c_void>(),
            &raw mut length,
        )
    };
    let number_at = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().expect("eight bytes"));
    let complete = asked == 0 && length as usize >= BYTES_RECEIVED_AT + 8;
    // The opening of a connection is acknowledged like a byte.
    let sent = number_at(BYTES_ACKED_AT).saturating_sub(1);
    complete.then(|| Carried { sent, received: number_at(BYTES_RECEIVED_AT) })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn the_kernel_counts_what_a_connection_carried() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut near = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        let (mut far, _) = listener.accept().expect("accepted");
        near.write_all(&[1; 1000]).expect("sent");
        far.write_all(&[2; 10]).expect("sent");
        far.read_exact(&mut [0; 1000]).expect("received");
        near.read_exact(&mut [0; 10]).expect("received");
        assert_eq!(carried_to(port)[&near.as_raw_fd()], Carried { sent: 1000, received: 10 });
        assert_eq!(carried_to(port).len(), 1, "the far end's peer is another port");
    }
}
