//! How the C library's heap grows.

/// Lets all threads share two heaps, where the C library is glibc; elsewhere it changes nothing.
///
/// By default each thread has a heap of its own. Records come from librdkafka's threads and end in ours, so each heap
/// keeps holes that no other may fill: measured, 0.4 MB a minute at 100 records a second.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes two integers, and is made before the clients' threads start.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
