//! The contract between the services: what a raw record is, what an enriched edit is, and how one becomes the other.
//!
//! Everything here is pure. No socket, no clock, no Kafka client: bytes go in, a value or a typed
//! [`Rejection`] comes out, and the same bytes give the same answer on every replay.
//!
//! ```
//! let value = br#"{"meta":{"id":"e-1","domain":"en.wikipedia.org","dt":"2026-01-02T03:04:05Z"},
//!     "id":7,"type":"edit","namespace":1,"title":"Talk:Rust","wiki":"enwiki","user":"Ada","bot":false}"#;
//! let mapping = schema::Mapping::new(&["edit".to_owned()]);
//! let edit = mapping.enrich(value).unwrap().expect("a change of that type");
//! assert_eq!(edit.namespace, "Talk");
//! assert_eq!(edit.namespace_local, "Talk");
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`event`] | an event as the stream sends it: which kind, which key, which id |
//! | [`edit`] | the enriched edit, value of `wikipedia-events` |
//! | [`mapping`] | from the event to the edit |
//! | [`namespace`] | namespace id and title → name |
//! | [`record`] | record headers, and the partition of a key |
//! | [`sse_id`] | the position that EventStreams puts into each SSE `id:` |
//! | [`gap`] | an entry of the gap ledger |
//! | [`backfill`] | a request to read a stretch of the stream again |
//! | [`control`] | what a sink says of itself |
//! | [`topics`] | topic names |
//! | [`rejection`] | why something cannot be read |
//! | `json` | a quick reader in front of the full parser |

pub mod backfill;
pub mod control;
pub mod edit;
pub mod event;
pub mod gap;
mod json;
pub mod mapping;
pub mod namespace;
pub mod record;
pub mod rejection;
pub mod sse_id;
pub mod topics;

pub use edit::Edit;
pub use mapping::Mapping;
pub use rejection::{Reason, Rejection};
pub use topics::Topics;
