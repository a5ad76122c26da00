//! Which stories of one test binary run at the same time.
//!
//! A story that measures time or memory calls [`alone`] first: it waits for those that run, and the others wait for it.
//! All other stories run side by side and need not do anything: every process that a story starts holds [`shared`].

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static STORIES: RwLock<()> = RwLock::new(());

/// What a story holds of the lock.
#[derive(Debug)]
enum Guard {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// The permits of one story, which is one thread: the lock is taken once, and held until the last of them is dropped.
#[derive(Debug, Default)]
struct Held {
    permits: usize,
    guard: Option<Guard>,
}

thread_local! {
    static HELD: RefCell<Held> = RefCell::default();
}

/// While it lives its story may run; it belongs to the thread that took it.
#[derive(Debug)]
pub struct Permit(PhantomData<*const ()>);

impl Permit {
    fn take(guard: impl FnOnce() -> Guard) -> Self {
        HELD.with_borrow_mut(|held| {
            held.guard.get_or_insert_with(guard);
            held.permits += 1;
        });
        Self(PhantomData)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| {
            held.permits -= 1;
            if held.permits == 0 {
                held.guard = None;
            }
        });
    }
}

/// Runs beside others; waits while a story runs alone. Within a story that runs alone it changes nothing.
#[must_use]
pub fn shared() -> Permit {
    Permit::take(|| Guard::Shared { _guard: STORIES.read().unwrap_or_else(PoisonError::into_inner) })
}

/// Runs while no other story does.
///
/// # Panics
/// Where the story has started something already: it would wait for itself.
#[must_use]
pub fn alone() -> Permit {
    let is_first = HELD.with_borrow(|held| held.permits == 0);
    assert!(is_first, "a story that runs alone says so before it starts anything");
    Permit::take(|| Guard::Alone { _guard: STORIES.write().unwrap_or_else(PoisonError::into_inner) })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_runs_alone_meets_nobody_and_its_own_processes_do_not_wait() {
        let alone = super::alone();
        let (own, process) = (shared(), shared());
        let (sender, others) = mpsc::channel();
        let other = std::thread::spawn(move || {
            let _beside = shared();
            sender.send(()).unwrap();
        });
        drop(alone);
        drop(own);
        assert!(others.try_recv().is_err(), "the last of its permits is still held");
        drop(process);
        others.recv().unwrap();
        other.join().unwrap();
    }

    #[test]
    fn a_story_that_failed_alone_keeps_nobody_from_running() {
        let failed = std::thread::spawn(|| {
            let _alone = alone();
            panic!("as a story fails");
        });
        assert!(failed.join().is_err());
        let both = [shared(), shared()];
        drop(both);
        drop(alone());
    }
}
