//! Kafka frames written by hand: what no client library would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(40);

/// A frame: its request's key and version, and what follows the header.
#[must_use]
pub fn frame(key: i16, version: i16, is_flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7_i32.to_be_bytes());
    string(&mut frame, "hand");
    if is_flexible {
        frame.push(0);
    }
    frame.extend(body);
    let length = u32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Writes a text with a length of two bytes.
///
/// # Panics
/// Where it is too long for that.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
    out.extend(text.as_bytes());
}

/// Writes a number of four bytes, such as the length of an array.
///
/// # Panics
/// Where it is too large for that.
pub fn number(out: &mut Vec<u8>, number: usize) {
    out.extend(i32::try_from(number).unwrap().to_be_bytes());
}

/// The answer to a frame, behind its correlation id; none where the connection ends.
///
/// # Panics
/// Where there is no socket.
pub fn ask(socket: &mut TcpStream, frame: &[u8]) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.write_all(frame).ok()?;
    let mut length = [0; 4];
    socket.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    socket.read_exact(&mut answer).ok()?;
    Some(answer.split_off(4))
}

/// A connection to a broker.
///
/// # Panics
/// Where it cannot be had.
#[must_use]
pub fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, LIMIT).unwrap()
}
