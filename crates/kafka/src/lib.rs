//! Kafka kit: client settings with their reasons, the fenced writer, tails, group membership, dead letters.
//!
//! It knows librdkafka and nothing of edits. Everything that blocks says so: librdkafka's transactional calls
//! do, also those that look asynchronous, so each caller has a thread of its own.
//!
//! ```no_run
//! # fn main() -> Result<(), kafka::Error> {
//! let kafka = kafka::Kafka::new(kafka::KafkaConfig::at("127.0.0.1:9092"), &service::Metrics::new("example"));
//! let mut writer = kafka.fenced_writer("example-0")?;
//! writer.begin()?;
//! writer.send(&kafka::Outgoing { topic: "t", partition: 0, key: b"k", value: b"v", headers: &[] })?;
//! writer.commit()?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`config`] | bootstrap servers, topics, pass-through settings |
//! | [`client`] | the settings of each kind of client, with their reasons |
//! | [`context`] | librdkafka's logs, errors and statistics |
//! | [`writer`] | a transactional producer that a successor fences |
//! | [`tail`] | the last records of partitions, and offsets |
//! | [`follower`] | a reader without a consumer group |
//! | [`group`] | membership of a consumer group: rebalances as values, offsets given with the assignment |
//! | [`group_metrics`] | what a group's member shows |
//! | [`group_view`] | a consumer group seen from outside |
//! | [`reporter`] | a producer for words that may be lost |
//! | [`topics`] | topics made idempotently, and what they are |
//! | [`copies`] | on how many brokers an acknowledged record stands |
//! | [`accepted`] | a loss that an operator accepts, at one place |
//! | [`dead_letter`] | headers of a dead letter |
//! | [`limits`] | limits that several clients share |
//! | [`settings`] | which settings pass through |
//! | [`record`] | a consumed record |
//! | [`ffi`] | the only `unsafe`: librdkafka's own commit, batches of records, topic ids, watermarks, groups described |

pub mod accepted;
pub mod client;
pub mod config;
pub mod context;
pub mod copies;
pub mod dead_letter;
mod error;
pub mod ffi;
pub mod follower;
pub mod group;
pub mod group_metrics;
pub mod group_view;
pub mod limits;
mod offset_sender;
pub mod record;
pub mod reporter;
pub mod settings;
pub mod tail;
pub mod topics;
mod weakness;
mod writer;

pub use accepted::{Accepted, AcceptedPlaces};
pub use client::{Kafka, wait_until_reachable};
pub use config::{KafkaConfig, Rebalancing};
pub use error::{ClientError, Error, is_passing};
pub use ffi::{Fetched, GroupDescription, MemberDescription, Membership};
pub use follower::Follower;
pub use group::{CommitMode, GroupMember, Polled, Queue, Rebalance, TopicPartition};
pub use group_view::{GroupView, TopicView};
pub use record::{BorrowedRecord, OwnedRecord, Record};
pub use reporter::Reporter;
pub use tail::Tail;
pub use writer::{FencedWriter, Outgoing, Queued};
