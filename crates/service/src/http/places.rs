//! Who holds a connection. Where all places are taken, one that asks nothing makes room for the next.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::phase::Phase;
use crate::limits::{Limits, Refused};

/// The connections of one server; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// By number: the lowest has been here longest.
    by_number: BTreeMap<u64, Holder>,
    next: u64,
}

#[derive(Debug)]
struct Holder {
    address: IpAddr,
    is_reserved: bool,
    phase: Phase,
    leave: CancellationToken,
}

/// What became of a new connection.
#[derive(Debug)]
pub(super) enum Entry {
    /// It is served. Another one had to make room where this says so.
    Served(Place, Option<Refused>),
    /// It is answered for its health only.
    Reserved(Place, Refused),
    /// It is not.
    Refused(Refused),
}

/// A connection's place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    /// What the connection is doing.
    pub(super) phase: Phase,
    /// Cancelled where it has to make room.
    pub(super) leave: CancellationToken,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, held: Mutex::default() }))
    }

    /// Connections now.
    pub(super) fn taken(&self) -> usize {
        self.held().by_number.len()
    }

    /// A place for a connection from this address, if there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Entry {
        let limits = self.0.limits;
        let address = address.to_canonical();
        let mut held = self.held();
        let of_address = held.count(|holder| !holder.is_reserved && holder.address == address);
        let in_all = held.count(|holder| !holder.is_reserved);
        let full = if of_address >= limits.connections_of_an_address {
            Some(Refused::ConnectionsOfAnAddress)
        } else if in_all >= limits.connections {
            Some(Refused::Connections)
        } else {
            None
        };
        let Some(full) = full else { return Entry::Served(self.place(&mut held, address, false), None) };
        // Of the same address where that one has too many: a stranger never costs others their connections.
        let only = (full == Refused::ConnectionsOfAnAddress).then_some(address);
        if held.make_room(false, only) {
            return Entry::Served(self.place(&mut held, address, false), Some(Refused::MadeRoom));
        }
        if !address.is_loopback() || limits.reserved == 0 {
            return Entry::Refused(full);
        }
        if held.count(|holder| holder.is_reserved) >= limits.reserved && !held.make_room(true, None) {
            return Entry::Refused(full);
        }
        Entry::Reserved(self.place(&mut held, address, true), full)
    }

    fn place(&self, held: &mut Held, address: IpAddr, is_reserved: bool) -> Place {
        let number = held.next;
        held.next += 1;
        let (phase, leave) = (Phase::new(), CancellationToken::new());
        held.by_number.insert(number, Holder { address, is_reserved, phase: phase.clone(), leave: leave.clone() });
        Place { places: self.clone(), number, phase, leave }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn count(&self, is_meant: impl Fn(&Holder) -> bool) -> usize {
        self.by_number.values().filter(|holder| is_meant(holder)).count()
    }

    /// Takes its place from the oldest connection that has no request in work.
    fn make_room(&mut self, is_reserved: bool, only: Option<IpAddr>) -> bool {
        let asks_nothing = |holder: &Holder| {
            holder.is_reserved == is_reserved
                && !holder.phase.is_busy()
                && only.is_none_or(|address| holder.address == address)
        };
        let oldest = self.by_number.iter().find(|(_, holder)| asks_nothing(holder)).map(|(number, _)| *number);
        let Some(holder) = oldest.and_then(|number| self.by_number.remove(&number)) else { return false };
        holder.leave.cancel();
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, of_an_address: usize) -> Places {
        let limits = Limits { connections, connections_of_an_address: of_an_address, reserved: 1, ..Limits::default() };
        Places::new(limits)
    }

    fn served(entry: Entry) -> Place {
        match entry {
            Entry::Served(place, _) => place,
            other => panic!("{other:?}"),
        }
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn the_oldest_that_asks_nothing_makes_room_and_of_its_own_address_only() {
        let places = places(10, 2);
        let other = served(places.enter(HERE));
        let (first, second) = (served(places.enter(THERE)), served(places.enter(THERE)));
        first.phase.begin();
        let Entry::Served(third, Some(Refused::MadeRoom)) = places.enter(THERE) else { panic!() };
        assert!(second.leave.is_cancelled(), "the first has a request in work");
        assert!(!first.leave.is_cancelled() && !other.leave.is_cancelled() && !third.leave.is_cancelled());
        assert_eq!(places.taken(), 3);
        // Its place is another's now: nothing is given back twice.
        drop(second);
        assert_eq!(places.taken(), 3);
    }

    #[test]
    fn where_all_have_work_the_next_is_refused_and_this_machine_may_ask_for_health() {
        let places = places(2, 2);
        let held = [served(places.enter(THERE)), served(places.enter(THERE))];
        held.iter().for_each(|place| place.phase.begin());
        assert!(matches!(places.enter(THERE), Entry::Refused(Refused::ConnectionsOfAnAddress)));
        let reserved = places.enter(HERE);
        assert!(matches!(reserved, Entry::Reserved(_, Refused::Connections)));
        let Entry::Reserved(first, _) = reserved else { panic!() };
        let Entry::Reserved(second, _) = places.enter(HERE) else { panic!() };
        assert!(first.leave.is_cancelled(), "one is reserved: the one that asks nothing makes room");
        second.phase.begin();
        assert!(matches!(places.enter(HERE), Entry::Refused(Refused::Connections)));
        drop((held, first, second));
        assert_eq!(places.taken(), 0);
    }
}
