//! What the threads of the service send each other.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Thread;

use kafka::{Error, FencedWriter, Queue, TopicPartition};
use service::CancellationToken;

use crate::recovery::Recovered;

/// To a mapper.
pub enum Message {
    /// A partition was assigned; its committer recovers.
    Begin(Box<Beginning>),
    /// A partition was revoked: commit what is open, then answer.
    End(TopicPartition, Sender<TopicPartition>),
    /// A partition was lost, or takes too long to end: drop it.
    Forget(TopicPartition),
    /// A committer answers.
    Reply(TopicPartition, u64, Reply),
}

/// What a mapper needs for a partition.
pub struct Beginning {
    /// The partition.
    pub at: TopicPartition,
    /// Tells this assignment of the partition from an earlier one.
    pub assignment: u64,
    /// Its records.
    pub queue: Queue,
    /// Its committer.
    pub committer: Handle,
}

/// From a committer to the mapper of its partition.
pub enum Reply {
    /// Work begins here.
    Recovered(Recovered),
    /// What was open is committed.
    Committed(FencedWriter),
    /// The outcome of the commit is unknown.
    Doubt(Error),
    /// A person must act.
    Stop(String),
}

/// From a mapper to a committer.
pub enum Order {
    /// Commit what is open; with this offset and metadata, where nothing else says that the last inputs are done.
    Commit(FencedWriter, Option<(i64, String)>),
    /// The last commit was refused or a write failed: recover.
    Recover,
}

/// A mapper: its messages, and its thread, which sleeps while it has nothing to do.
#[derive(Clone, Debug)]
pub struct MapperHandle {
    /// Its messages.
    pub messages: Sender<Message>,
    /// Its thread.
    pub thread: Thread,
}

impl MapperHandle {
    /// Sends a message and wakes it. A mapper that ended has ended the service already.
    pub fn send(&self, message: Message) {
        drop(self.messages.send(message));
        self.thread.unpark();
    }
}

/// A committer, as its mapper sees it; dropped, it ends.
#[derive(Debug)]
pub struct Handle {
    orders: Sender<Order>,
    stop: CancellationToken,
}

impl Handle {
    /// A handle and the orders that come by it.
    #[must_use]
    pub fn new(stop: CancellationToken) -> (Self, Receiver<Order>) {
        let (orders, receiver) = channel();
        (Self { orders, stop }, receiver)
    }

    /// Gives an order. A committer that is gone has said why already.
    pub fn order(&self, order: Order) {
        drop(self.orders.send(order));
    }

    /// Ends recovering; what is being committed is not cut short.
    pub fn stop_recovering(&self) {
        self.stop.cancel();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
