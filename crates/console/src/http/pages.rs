//! The pages that are open: so many in all, and so many of one address.

use std::net::IpAddr;

use service::Metrics;
use service::limits::Refused;
use service::per_address::{Full, PerAddress, Place};

/// The open pages; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    most: usize,
    most_of_an_address: usize,
    metrics: Metrics,
    open: PerAddress,
}

impl Pages {
    pub(super) fn new(most: usize, most_of_an_address: usize, metrics: &Metrics) -> Self {
        Self { most, most_of_an_address, metrics: metrics.clone(), open: PerAddress::default() }
    }

    /// A place for a page, or what to say where there is none.
    pub(super) fn open(&self, address: IpAddr) -> Result<Place, String> {
        self.open.take(address, self.most, self.most_of_an_address).map_err(|full| {
            let (limit, refused, variable) = match full {
                Full::InAll => (self.most, Refused::Pages, "WIKI_MAX_CLIENTS"),
                Full::OfAddress => {
                    (self.most_of_an_address, Refused::PagesOfAnAddress, "WIKI_MAX_CLIENTS_OF_AN_ADDRESS")
                }
            };
            self.metrics.refused(refused);
            format!("{limit} pages are open, which is the limit; close one, or raise {variable}\n")
        })
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
        assert!((0..2).map(|_| pages.open(there)).all(|again| again.is_ok()));
    }
}
