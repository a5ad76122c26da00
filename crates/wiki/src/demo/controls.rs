//! What the page may do to the demo: its wishes reach the loop that holds the sinks.

use std::pin::Pin;

use console::control::{Action, Answer, Control, Controls};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// A wish, and where its answer goes.
pub(crate) type Wish = (Action, oneshot::Sender<Answer>);

/// The page's end.
#[derive(Debug)]
struct Wishes(mpsc::Sender<Wish>);

impl Controls for Wishes {
    fn act(&self, action: Action) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(async move {
            let ended = || "the demo is ending".to_owned();
            let (answer, answered) = oneshot::channel();
            self.0.send((action, answer)).await.map_err(|_| ended())?;
            answered.await.map_err(|_| ended())?
        })
    }
}

/// Controls for the page, and the wishes that come of them.
pub(crate) fn controls() -> (Control, mpsc::Receiver<Wish>) {
    let (wishes, wished) = mpsc::channel(8);
    (Control { controls: std::sync::Arc::new(Wishes(wishes)), token: Uuid::new_v4().to_string() }, wished)
}
