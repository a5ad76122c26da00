//! The pages that are open, counted in all and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use service::Metrics;
use service::limits::Refused;

/// The open pages; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    most_of_an_address: usize,
    metrics: Metrics,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A page's place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pages: Pages,
    address: IpAddr,
}

impl Pages {
    pub(super) fn new(most: usize, most_of_an_address: usize, metrics: &Metrics) -> Self {
        Self(Arc::new(Inner { most, most_of_an_address, metrics: metrics.clone(), open: Mutex::default() }))
    }

    /// A place for a page, or what to say where there is none.
    pub(super) fn open(&self, address: IpAddr) -> Result<Place, String> {
        let address = address.to_canonical();
        let mut open = self.held();
        let of_address = open.get(&address).copied().unwrap_or(0);
        let (limit, refused, variable) = if open.values().sum::<usize>() >= self.0.most {
            (self.0.most, Refused::Pages, "WIKI_MAX_CLIENTS")
        } else if of_address >= self.0.most_of_an_address {
            (self.0.most_of_an_address, Refused::PagesOfAnAddress, "WIKI_MAX_CLIENTS_OF_AN_ADDRESS")
        } else {
            open.insert(address, of_address + 1);
            return Ok(Place { pages: self.clone(), address });
        };
        self.0.metrics.refused(refused);
        Err(format!("{limit} pages are open, which is the limit; close one, or raise {variable}\n"))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.pages.held();
        let left = open.get(&self.address).map_or(0, |pages| pages.saturating_sub(1));
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
        let pages = Pages::new(3, 2, &Metrics::new("test"));
        let (here, there): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [192, 0, 2, 1].into());
        let held = [pages.open(there).unwrap(), pages.open(there).unwrap()];
        assert!(pages.open(there).unwrap_err().contains("WIKI_MAX_CLIENTS_OF_AN_ADDRESS"));
        let own = pages.open(here).unwrap();
        assert!(pages.open(here).unwrap_err().contains("raise WIKI_MAX_CLIENTS\n"));
        drop((held, own));
        assert!(pages.held().is_empty());
    }
}
