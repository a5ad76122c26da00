//! The wire itself: what is no request closes its own connection and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;

use super::{ANSWER, Check, Cluster, Outcome, write};
use crate::random::Random;

pub(super) const CHECKS: &[Check] =
    &[("malformed_frames_close_their_connection_only", malformed), ("requests_cut_short_harm_nobody", cut_short)];

fn connect(cluster: &Cluster) -> Result<TcpStream, String> {
    let first = cluster.bootstrap.split(',').next().unwrap_or_default();
    let address = first.to_socket_addrs().map_err(|error| error.to_string())?.next().ok_or("no address")?;
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Whether the peer closed the connection, or answered and waits.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    !matches!(stream.read(&mut byte), Ok(1))
}

/// A produce request of version 3 whose array claims two thousand million elements.
fn endless_array() -> Vec<u8> {
    let mut body = vec![0, 0, 0, 3, 0, 0, 0, 7, 0, 1, b'c', 0xff, 0xff, 0, 1, 0, 0, 0, 5];
    body.extend(i32::MAX.to_be_bytes());
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

fn malformed(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 1, &[])?;
    let frames: [(&str, Vec<u8>); 5] = [
        ("a negative length", vec![0xff, 0xff, 0xff, 0xff]),
        ("two gigabytes", vec![0x7f, 0xff, 0xff, 0xff, 0, 0]),
        ("a request that does not exist", vec![0, 0, 0, 8, 0x7f, 0xff, 0, 0, 0, 0, 0, 1]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("an array longer than its frame", endless_array()),
    ];
    for (what, frame) in frames {
        let mut stream = connect(cluster)?;
        stream.write_all(&frame).map_err(|error| error.to_string())?;
        if !is_closed(&mut stream) {
            return Err(format!("{what}: the connection is still open"));
        }
    }
    write(&cluster.producer(&[]), &topic, 0, 0..3)
}

fn cut_short(cluster: &Cluster) -> Outcome {
    let mut random = Random::new(4);
    for _ in 0..200 {
        let mut stream = connect(cluster)?;
        let length = random.below(120) + 8;
        let mut frame = u32::try_from(length).unwrap().to_be_bytes().to_vec();
        // A real request's key and version, then noise, sometimes less of it than announced.
        frame.extend([0, u8::try_from(random.below(70)).unwrap(), 0, u8::try_from(random.below(10)).unwrap()]);
        let noise = length - 4 - random.below(4).min(length - 4);
        frame.extend((0..noise).map(|_| u8::try_from(random.below(256)).unwrap()));
        // A broker that closes early is right.
        let _ = stream.write_all(&frame);
    }
    cluster.reader().fetch_metadata(None, ANSWER).map(|_| ()).map_err(|error| error.to_string())
}
