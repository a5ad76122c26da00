//! A proxy between clients and brokers that can hold one transaction's end back, and let it go later.
//!
//! It knows just enough of Kafka's protocol: the frames of requests, which of them end a transaction, and which name a
//! transactional id. Answers pass as bytes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

const PRODUCE: i16 = 0;
const INIT_PRODUCER_ID: i16 = 22;
const END_TXN: i16 = 26;
/// Requests are far shorter here.
const MAX_FRAME: usize = 64 << 20;

/// One held end of a transaction.
struct Held {
    frame: Vec<u8>,
    /// The connection that it came on, kept open for it.
    broker: TcpStream,
}

/// What is to be held, and what was seen of it.
#[derive(Default)]
struct Plan {
    /// The transactional id whose next end is held.
    id: Vec<u8>,
    is_armed: bool,
    /// Let it go right behind the first record of the transaction after it, once its writer has initialised again.
    releases_itself: bool,
    has_initialised: bool,
    held: Option<Held>,
    released: bool,
}

/// Listens on ports that the brokers advertise as their own.
#[derive(Clone, Default)]
pub struct Proxy(Arc<Mutex<Plan>>);

impl Proxy {
    /// Passes everything that comes to a listener on to `broker`, for as long as the process lives.
    ///
    /// # Panics
    /// Where the system gives no thread.
    pub fn serve(&self, listener: TcpListener, broker: SocketAddr) {
        let proxy = self.clone();
        spawn(move || {
            for client in listener.incoming().flatten() {
                // A broker that is not there yet is the client's to notice.
                let Ok(server) = TcpStream::connect(broker) else { continue };
                let (answers, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                spawn(move || pass_answers(answers, to_client));
                let proxy = proxy.clone();
                spawn(move || proxy.pass_requests(client, server));
            }
        });
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the next end of a transaction of this id. With `releases_itself` it goes on right behind the first
    /// record of the next transaction, once the id was initialised again.
    pub fn hold_next_end(&self, transactional_id: &str, releases_itself: bool) {
        let id = transactional_id.as_bytes().to_vec();
        *self.plan() = Plan { id, is_armed: true, releases_itself, ..Plan::default() };
    }

    /// Whether one is held now.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.plan().held.is_some()
    }

    /// Whether the one that was held has been let go.
    #[must_use]
    pub fn has_released(&self) -> bool {
        self.plan().released
    }

    /// Lets go what is held.
    pub fn release(&self) {
        self.plan().release();
    }

    fn pass_requests(&self, mut client: TcpStream, mut server: TcpStream) {
        while let Some(frame) = read_frame(&mut client) {
            if !self.plan().takes(&frame, &server) && server.write_all(&frame).is_err() {
                return;
            }
            self.plan().passed(&frame);
        }
    }
}

impl Plan {
    /// Whether this request is held instead of passed on.
    fn takes(&mut self, frame: &[u8], server: &TcpStream) -> bool {
        let takes = self.is_armed && key_of(frame) == END_TXN && self.concerns(frame);
        if takes {
            self.is_armed = false;
            self.held = Some(Held { frame: frame.to_vec(), broker: server.try_clone().unwrap() });
        }
        takes
    }

    fn passed(&mut self, frame: &[u8]) {
        if self.held.is_none() || !self.concerns(frame) {
            return;
        }
        match key_of(frame) {
            INIT_PRODUCER_ID => self.has_initialised = true,
            PRODUCE if self.releases_itself && self.has_initialised => self.release(),
            _ => {}
        }
    }

    fn concerns(&self, frame: &[u8]) -> bool {
        frame.windows(self.id.len()).any(|window| window == self.id)
    }

    fn release(&mut self) {
        if let Some(mut held) = self.held.take() {
            // The broker may have closed the connection meanwhile: then the story waits in vain, and says so.
            self.released = held.broker.write_all(&held.frame).is_ok();
        }
    }
}

fn spawn(body: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name("proxy".to_owned()).spawn(body).unwrap();
}

/// A whole request with its length; `None` at the end of the connection.
fn read_frame(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0_u8; 4];
    client.read_exact(&mut length).ok()?;
    let bytes = usize::try_from(i32::from_be_bytes(length)).ok().filter(|bytes| *bytes <= MAX_FRAME)?;
    let mut frame = length.to_vec();
    frame.resize(4 + bytes, 0);
    client.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

fn key_of(frame: &[u8]) -> i16 {
    frame.get(4..6).map_or(-1, |bytes| i16::from_be_bytes([bytes[0], bytes[1]]))
}

fn pass_answers(mut server: TcpStream, mut client: TcpStream) {
    // Ends with either side's connection; the requests' direction notices by itself.
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}
