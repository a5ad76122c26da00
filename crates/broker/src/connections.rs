//! The open connections: so many at most, the longest idle one closed for the next.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What became of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Free,
    /// Another one was closed for it.
    MadeRoom,
    /// All others have requests in work.
    Refused,
}

/// The open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    open: Mutex<HashMap<u64, Connection>>,
}

#[derive(Debug)]
struct Connection {
    socket: Arc<TcpStream>,
    /// Since when no request is in work; `None` while one is.
    idle_since: Option<Instant>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: Mutex::default() }
    }

    /// Takes one in, where there is a place or another one is idle.
    pub(crate) fn open(&self, number: u64, socket: &Arc<TcpStream>) -> Entry {
        let mut open = self.held();
        let mut entry = Entry::Free;
        if open.len() >= self.most {
            let idle = open.iter().filter_map(|(number, held)| Some((held.idle_since?, *number)));
            let Some(longest) = idle.min().and_then(|(_, number)| open.remove(&number)) else { return Entry::Refused };
            // Its thread ends by this.
            let _ = longest.socket.shutdown(Shutdown::Both);
            entry = Entry::MadeRoom;
        }
        open.insert(number, Connection { socket: Arc::clone(socket), idle_since: Some(Instant::now()) });
        entry
    }

    /// A request is in work, or none any more.
    pub(crate) fn set_busy(&self, number: u64, is_busy: bool) {
        if let Some(held) = self.held().get_mut(&number) {
            held.idle_since = (!is_busy).then(Instant::now);
        }
    }

    pub(crate) fn close(&self, number: u64) {
        self.held().remove(&number);
    }

    pub(crate) fn close_all(&self) {
        for held in self.held().values() {
            // A socket that is closed already is what is wanted.
            let _ = held.socket.shutdown(Shutdown::Both);
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    #[test]
    fn the_longest_idle_one_is_closed_for_the_next_and_none_at_work() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let connections = Connections::new(2);
        let sockets = [connect(), connect(), connect(), connect()];
        assert_eq!([0, 1].map(|at| connections.open(at as u64, &sockets[at])), [Entry::Free, Entry::Free]);
        connections.set_busy(0, true);
        assert_eq!(connections.open(2, &sockets[2]), Entry::MadeRoom);
        assert_eq!((&*sockets[1]).read(&mut [0]).unwrap(), 0, "the idle one is closed");
        connections.set_busy(2, true);
        assert_eq!(connections.open(3, &sockets[3]), Entry::Refused);
        connections.close(0);
        assert_eq!(connections.open(3, &sockets[3]), Entry::Free);
    }
}
