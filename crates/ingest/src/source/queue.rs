//! Items on their way from a connection to its reader: bounded in number and in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Item;

/// Items that may wait.
const ITEMS: usize = 4_096;
/// Bytes of events that may wait together: eight of the longest, and some thousand as they are.
const BYTES: usize = 8 << 20;

/// An item, and the room that it takes until it is read.
type Held = (Item, OwnedSemaphorePermit);

/// The connection's end.
#[derive(Debug)]
pub(super) struct Sender {
    items: mpsc::Sender<Held>,
    room: Arc<Semaphore>,
}

/// The reader's end.
#[derive(Debug)]
pub(super) struct Receiver(mpsc::Receiver<Held>);

/// The reader is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// A queue.
pub(super) fn queue() -> (Sender, Receiver) {
    let (items, receiver) = mpsc::channel(ITEMS);
    (Sender { items, room: Arc::new(Semaphore::new(BYTES)) }, Receiver(receiver))
}

fn bytes(item: &Item) -> u32 {
    let bytes = match item {
        Item::Arrived(arrival) => arrival.sse_id.len() + arrival.data.len(),
        Item::Connected { .. } | Item::Ended(_) => 0,
    };
    u32::try_from(bytes.min(BYTES)).unwrap_or(u32::MAX)
}

impl Sender {
    /// Waits for room, and sends.
    pub(super) async fn send(&self, item: Item) -> Result<(), Gone> {
        let room = Arc::clone(&self.room);
        tokio::select! {
            room = room.acquire_many_owned(bytes(&item)) => {
                let room = room.map_err(|_| Gone)?;
                self.items.send((item, room)).await.map_err(|_| Gone)
            }
            () = self.items.closed() => Err(Gone),
        }
    }
}

impl Receiver {
    /// The next item, if it is there.
    pub(super) fn try_recv(&mut self) -> Option<Item> {
        self.0.try_recv().ok().map(|(item, _)| item)
    }

    /// The next item; none once the connection's end is gone.
    pub(super) async fn recv(&mut self) -> Option<Item> {
        self.0.recv().await.map(|(item, _)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrival::{Reader, Routes};

    fn event(bytes: usize) -> Item {
        let mut reader = Reader::new(Routes::default());
        Item::Arrived(Box::new(reader.read(String::new(), vec![b'x'; bytes])))
    }

    #[tokio::test]
    async fn long_events_wait_for_room_and_all_of_them_come() {
        let (sender, mut receiver) = queue();
        let sending = tokio::spawn(async move {
            for _ in 0..30 {
                sender.send(event(1 << 20)).await.unwrap();
            }
        });
        let mut most = 0;
        for _ in 0..30 {
            // Lets the sender go as far as it can.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            most = most.max(receiver.0.len());
            assert!(receiver.recv().await.is_some());
        }
        assert_eq!(most, BYTES >> 20, "as many as there is room for");
        sending.await.unwrap();
        assert!(receiver.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_sender_that_waits_hears_that_the_reader_is_gone() {
        let (sender, receiver) = queue();
        for _ in 0..8 {
            sender.send(event(1 << 20)).await.unwrap();
        }
        let waiting = tokio::spawn(async move { sender.send(event(1 << 20)).await });
        tokio::task::yield_now().await;
        drop(receiver);
        assert!(waiting.await.unwrap().is_err());
    }
}
