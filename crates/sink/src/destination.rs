//! The destination, on a thread of its own: it may be slow or frozen, and the group is polled meanwhile.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use service::{Failure, Heartbeat, Service};

use crate::writer::Writer;

/// Between two signs of life while there is nothing to do.
const BEAT: Duration = Duration::from_secs(1);
/// A call that lasts longer hangs for good: the service ends, and is started again. A frozen database is waited for.
const HANG_LIMIT: Duration = Duration::from_secs(900);

type Job = Box<dyn FnOnce(&mut dyn Writer) + Send>;

/// Runs calls to the writer, one after the other, in the order in which they were asked for.
#[derive(Debug)]
pub struct Destination {
    jobs: Sender<Job>,
}

/// An answer of the writer that is still to come. A call that has not begun when this is dropped is not made.
#[derive(Debug)]
pub struct Pending<T> {
    answer: Receiver<T>,
    asked: Instant,
    _wanted: Arc<()>,
}

impl<T> Pending<T> {
    /// How long ago it was asked for.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.asked.elapsed()
    }

    /// The answer, if it comes within `limit`. After that it never comes again.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> Option<T> {
        // A thread that ended has ended the service too.
        self.answer.recv_timeout(limit).ok()
    }
}

impl Destination {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(service: &Service, writer: Box<dyn Writer>) -> Result<Self, Failure> {
        let (jobs, asked) = channel();
        service.tasks.spawn_thread("write", HANG_LIMIT, move |heartbeat| {
            run(writer, &asked, &heartbeat);
            Ok(())
        })?;
        Ok(Self { jobs })
    }

    /// Asks for a call.
    pub fn ask<T: Send + 'static>(&self, call: impl FnOnce(&mut dyn Writer) -> T + Send + 'static) -> Pending<T> {
        let (send, answer) = channel();
        let wanted = Arc::new(());
        let is_wanted: Weak<()> = Arc::downgrade(&wanted);
        let job: Job = Box::new(move |writer| {
            if is_wanted.strong_count() > 0 {
                drop(send.send(call(writer)));
            }
        });
        drop(self.jobs.send(job));
        Pending { answer, asked: Instant::now(), _wanted: wanted }
    }
}

/// Ends when every asker is gone.
fn run(mut writer: Box<dyn Writer>, asked: &Receiver<Job>, heartbeat: &Heartbeat) {
    loop {
        heartbeat.beat();
        match asked.recv_timeout(BEAT) {
            Ok(job) => job(writer.as_mut()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
