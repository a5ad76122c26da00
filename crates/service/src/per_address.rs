//! Streams that stay open, counted in all and by the address that they go to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The open streams of one server; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PerAddress(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// Why there is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are as many as may be open.
    InAll,
    /// This address has as many as one may have.
    OfAddress,
}

/// A stream's place, until this is dropped.
#[derive(Debug)]
pub struct Place {
    open: PerAddress,
    address: IpAddr,
}

impl PerAddress {
    /// A place for a stream to this address.
    ///
    /// # Errors
    /// Which of the two bounds is reached.
    pub fn take(&self, address: IpAddr, most: usize, most_of_an_address: usize) -> Result<Place, Full> {
        let address = address.to_canonical();
        let mut open = self.held();
        if open.values().sum::<usize>() >= most {
            return Err(Full::InAll);
        }
        let of_address = open.get(&address).copied().unwrap_or(0);
        if of_address >= most_of_an_address {
            return Err(Full::OfAddress);
        }
        open.insert(address, of_address + 1);
        Ok(Place { open: self.clone(), address })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.held();
        let left = open.get(&self.address).map_or(0, |streams| streams.saturating_sub(1));
        if left == 0 {
            open.remove(&self.address);
        } else {
            open.insert(self.address, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_the_places_of_all() {
        let streams = PerAddress::default();
        let (here, there): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [192, 0, 2, 1].into());
        let take = |address| streams.take(address, 3, 2);
        let held = [take(there).unwrap(), take(there).unwrap()];
        assert_eq!(take(there).unwrap_err(), Full::OfAddress);
        let own = take(here).unwrap();
        assert_eq!(take(here).unwrap_err(), Full::InAll);
        drop((held, own));
        assert!(streams.held().is_empty());
    }
}
