//! Ports for servers that are started later, and started again after a kill.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Below those that the system hands out: else a client's own end of a connection could take one before its server does.
const RANGE: std::ops::Range<u16> = 10_000..32_768;

/// Listens on a port of this machine that the system hands to no client.
///
/// # Panics
/// Where all are taken.
#[must_use]
pub fn held() -> TcpListener {
    let length = u64::from(RANGE.end - RANGE.start);
    let first = RandomState::new().hash_one(std::process::id()) % length;
    let offsets = (0..length).map(|step| (first + step) % length);
    let ports = offsets.map(|offset| RANGE.start + u16::try_from(offset).unwrap());
    ports.into_iter().find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()).expect("a free port")
}

/// The port of such a listener, free again.
///
/// # Panics
/// Where all are taken.
#[must_use]
pub fn free() -> u16 {
    held().local_addr().unwrap().port()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_port_is_none_that_the_system_hands_out() {
        let held: Vec<_> = (0..20).map(|_| super::held().local_addr().unwrap().port()).collect();
        assert!(held.iter().all(|port| super::RANGE.contains(port)), "{held:?}");
    }
}
