//! The bytes that long requests and answers hold, over all connections. Where there is no room for one more, the one
//! that has waited longest for its client makes room: on one machine an honest client is done in milliseconds.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{Counts, FRAME_TIME, Refused, SMALL_BYTES, WORK_BYTES};

/// How long a client is waited for while others want the room.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often those that wait look again.
const LOOK: Duration = Duration::from_millis(50);

/// What is in work; shared by all connections.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pool: Mutex<Pool>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    bytes: usize,
    by_number: BTreeMap<u64, Holder>,
    next: u64,
}

#[derive(Debug)]
struct Holder {
    bytes: usize,
    since: Instant,
    /// Its connection, while bytes have to come from there or go there.
    waits_for: Option<Arc<TcpStream>>,
}

/// Room for one request or answer, until this is dropped.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    work: &'a Work,
    /// `None` where it is small enough for all.
    number: Option<u64>,
}

impl Work {
    /// Room for so many bytes that come from this client or go there; none where it does not come free in time.
    pub(crate) fn room(&self, bytes: usize, client: &Arc<TcpStream>, counts: &Counts) -> Option<Room<'_>> {
        if bytes <= SMALL_BYTES {
            return Some(Room { work: self, number: None });
        }
        let bytes = bytes.min(WORK_BYTES);
        let started = Instant::now();
        let mut pool = self.pool();
        while pool.bytes + bytes > WORK_BYTES {
            if started.elapsed() >= FRAME_TIME {
                counts.add(Refused::Work);
                return None;
            }
            if pool.cut_the_slowest() {
                counts.add(Refused::Work);
            }
            pool = self.freed.wait_timeout(pool, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        let number = pool.next;
        pool.next += 1;
        pool.bytes += bytes;
        let waits_for = Some(Arc::clone(client));
        pool.by_number.insert(number, Holder { bytes, since: Instant::now(), waits_for });
        Some(Room { work: self, number: Some(number) })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn cut_the_slowest(&mut self) -> bool {
        let slow = |holder: &&mut Holder| holder.waits_for.is_some() && holder.since.elapsed() >= PATIENCE;
        let Some(client) = self.by_number.values_mut().find(slow).and_then(|holder| holder.waits_for.take()) else {
            return false;
        };
        // Its thread finds the connection closed and gives the room back.
        let _ = client.shutdown(Shutdown::Both);
        true
    }
}

impl Room<'_> {
    /// The request is whole: from here on it is this broker that it waits for.
    pub(crate) fn is_whole(&self) {
        let Some(number) = self.number else { return };
        if let Some(holder) = self.work.pool().by_number.get_mut(&number) {
            holder.waits_for = None;
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut pool = self.work.pool();
        if let Some(holder) = pool.by_number.remove(&number) {
            pool.bytes -= holder.bytes;
        }
        drop(pool);
        self.work.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_one_that_waits_longest_for_its_client_makes_room_and_none_at_work() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (work, counts) = (Work::default(), Counts::default());
        let at_work = work.room(WORK_BYTES / 2, &client, &counts).unwrap();
        at_work.is_whole();
        let slow = work.room(WORK_BYTES / 2, &client, &counts).unwrap();
        assert!(work.room(SMALL_BYTES, &client, &counts).is_some(), "small ones always fit");
        std::thread::scope(|scope| {
            let next = scope.spawn(|| work.room(WORK_BYTES / 2, &client, &counts).is_some());
            // What its thread does once the connection is cut.
            while client.peer_addr().is_ok() && work.pool().by_number.values().any(|holder| holder.waits_for.is_some())
            {
                std::thread::yield_now();
            }
            drop(slow);
            assert!(next.join().unwrap());
        });
        assert_eq!(work.pool().bytes, WORK_BYTES / 2, "the one at work kept its room");
        drop(at_work);
        assert_eq!(work.pool().bytes, 0);
    }
}
