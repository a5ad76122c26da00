//! A link to a server that passes so many bytes a second towards it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes passed at once: small, so that the rate is even.
const PIECE: usize = 1024;

/// The link; its connections end with those who use them.
#[derive(Debug)]
pub struct SlowLink {
    /// Where to connect.
    pub address: SocketAddr,
    rate: Arc<AtomicU64>,
}

impl SlowLink {
    /// A link to `server` that passes `rate` bytes a second, in all connections each.
    ///
    /// # Panics
    /// Where the system gives no port.
    #[must_use]
    pub fn to(server: SocketAddr, rate: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rate = Arc::new(AtomicU64::new(rate));
        let shared = Arc::clone(&rate);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (back, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let rate = Arc::clone(&shared);
                std::thread::spawn(move || pass(client, to, &rate));
                std::thread::spawn(move || pass(server, back, &AtomicU64::new(u64::MAX)));
            }
        });
        Self { address, rate }
    }

    /// Passes so many bytes a second from now on.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, rate: &AtomicU64) {
    let mut piece = [0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let rate = rate.load(Ordering::Relaxed);
        if rate < u64::MAX {
            std::thread::sleep(Duration::from_secs_f64(length as f64 / rate as f64));
        }
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
