//! Headers of a consumed record.

use rdkafka::message::{Headers as _, Message};
use schema::record::HeaderSource;

/// A record's headers, by name.
#[derive(Debug)]
pub struct Headers<'a, M>(pub &'a M);

impl<M: Message> HeaderSource for Headers<'_, M> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.headers()?.iter().find(|header| header.key == name)?.value
    }
}
