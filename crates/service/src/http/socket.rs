//! A socket whose client has to keep to the times.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use super::phase::Phase;
use crate::limits::Times;

/// A read fails where a request does not come in time, a write where the client does not take it.
#[derive(Debug)]
pub(super) struct TimedSocket<S> {
    socket: S,
    phase: Phase,
    times: Times,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    write_waits: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TimedSocket<S> {
    pub(super) fn new(socket: S, phase: Phase, times: Times) -> Self {
        let later = tokio::time::Instant::now() + times.idle;
        let (reading, writing) = (Box::pin(sleep_until(later)), Box::pin(sleep_until(later)));
        Self { socket, phase, times, reading, writing, write_waits: false }
    }

    fn written<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_waits = false;
            self.phase.wrote();
            return result;
        }
        if !self.write_waits {
            self.write_waits = true;
            self.phase.waits_to_write();
            self.writing.as_mut().reset((Instant::now() + self.times.write).into());
        }
        ready!(self.writing.as_mut().poll(context));
        self.phase.is_not_read();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TimedSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.socket).poll_read(context, buffer) {
            if buffer.filled().len() > before {
                self.phase.heard();
            }
            // Bytes that drip do not put off the end of the headers.
            let is_late =
                self.phase.deadline(&self.times, context.waker()).is_some_and(|deadline| deadline <= Instant::now());
            if !is_late {
                return Poll::Ready(result);
            }
        } else {
            let Some(deadline) = self.phase.deadline(&self.times, context.waker()) else { return Poll::Pending };
            self.reading.as_mut().reset(deadline.into());
            ready!(self.reading.as_mut().poll(context));
        }
        self.phase.came_too_late();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimedSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
