//! What a connection is doing: waiting for a request, reading one, or answering it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::limits::{Refused, Times};

/// The phase of one connection, shared by its socket, its requests and those who look for a place.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    step: Step,
    /// The reader, which has a time to keep as soon as the request in work is answered.
    reader: Option<Waker>,
    /// An answer waits for its client to take it.
    is_writing: bool,
    cut: Option<Refused>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Idle {
        since: Instant,
    },
    Head {
        since: Instant,
    },
    /// Its time is kept by who reads it.
    Body,
    Busy,
}

impl Phase {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            step: Step::Idle { since: Instant::now() },
            reader: None,
            is_writing: false,
            cut: None,
        })))
    }

    /// Bytes came: the first of a request, where none is in work.
    pub(super) fn heard(&self) {
        let mut state = self.state();
        if let Step::Idle { .. } = state.step {
            state.step = Step::Head { since: Instant::now() };
        }
    }

    /// The headers of a request are whole.
    pub(super) fn has_head(&self) {
        self.state().step = Step::Body;
    }

    /// A request is whole.
    pub(super) fn begin(&self) {
        self.state().step = Step::Busy;
    }

    /// Its answer is written, or given up.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.step = Step::Idle { since: Instant::now() };
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The client took bytes of an answer: it is not idle before the last ones.
    pub(super) fn wrote(&self) {
        let mut state = self.state();
        if state.is_writing {
            state.is_writing = false;
            state.reader.take().into_iter().for_each(Waker::wake);
        }
        if let Step::Idle { since } = &mut state.step {
            *since = Instant::now();
        }
    }

    /// The client does not take the next bytes of an answer yet.
    pub(super) fn waits_to_write(&self) {
        self.state().is_writing = true;
    }

    pub(super) fn is_busy(&self) -> bool {
        let state = self.state();
        state.is_writing || matches!(state.step, Step::Busy)
    }

    /// Until when something has to come; `None` where nothing needs to until the reader is woken.
    pub(super) fn deadline(&self, times: &Times, reader: &Waker) -> Option<Instant> {
        let mut state = self.state();
        state.reader = Some(reader.clone());
        match state.step {
            _ if state.is_writing => None,
            Step::Idle { since } => Some(since + times.idle),
            Step::Head { since } => Some(since + times.head),
            Step::Body | Step::Busy => None,
        }
    }

    /// Nothing came until the deadline. An idle connection may be closed at any time: that is no refusal.
    pub(super) fn came_too_late(&self) {
        let mut state = self.state();
        if let Step::Head { .. } = state.step {
            state.cut = Some(Refused::HeadTime);
        }
    }

    /// Nothing was read of an answer.
    pub(super) fn is_not_read(&self) {
        self.state().cut = Some(Refused::WriteTime);
    }

    /// Why the connection was cut, where a bound was the reason.
    pub(super) fn cut(&self) -> Option<Refused> {
        self.state().cut
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
