//! Connections and frames: one thread each, requests answered in their order.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, RequestKind, ResponseHeader, ResponseKind, api_versions_response::ApiVersion,
};
use kafka_protocol::protocol::{Encodable, StrBytes, decode_request_header_from_buffer};

use crate::requests::{classic, consumer, groups, offsets, records, topics, transactions};
use crate::state::Shared;
use crate::{Config, frame, group};

/// How often members and transactions are looked at for expiry.
const TICK: Duration = Duration::from_millis(200);
/// Key, version, correlation id: no request is shorter.
const MIN_FRAME_BYTES: usize = 8;
const UNSUPPORTED_VERSION: i16 = 35;

/// The listener and its threads.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
}

/// Open sockets, so that stopping can close them.
type Connections = Mutex<HashMap<u64, TcpStream>>;

impl Server {
    pub(crate) fn start(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port))?;
        let shared = Arc::new(Shared::new(listener.local_addr()?, config));
        let connections = Arc::new(Connections::default());
        let server = Self { shared: Arc::clone(&shared), connections: Arc::clone(&connections) };
        spawn("broker-accept", {
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &connections)
        })?;
        spawn("broker-tick", move || tick(&shared))?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    pub(crate) fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake();
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address()));
        for stream in self.connections.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // A socket that is closed already is what is wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Connections at once, at most.
const MOST_CONNECTIONS: usize = 1_000;
/// Longest time from a frame's length to its last byte.
const FRAME_LIMIT: Duration = Duration::from_secs(30);
/// The key of the request, at a frame's beginning.
const KEY_BYTES: usize = 2;

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(512 << 10).spawn(body).map(|_| ())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, connections: &Arc<Connections>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.lock().stopping {
            return;
        }
        let Ok(stream) = stream else { continue };
        if connections.lock().unwrap_or_else(PoisonError::into_inner).len() >= MOST_CONNECTIONS {
            // Dropped here: its client tries again.
            tracing::warn!("{MOST_CONNECTIONS} connections are open: one more was refused");
            continue;
        }
        let Ok(registered) = stream.try_clone() else { continue };
        connections.lock().unwrap_or_else(PoisonError::into_inner).insert(number, registered);
        let (shared, open) = (Arc::clone(shared), Arc::clone(connections));
        let served = spawn("broker-connection", move || {
            if let Err(error) = serve(stream, &shared) {
                tracing::debug!(%error, "connection closed");
            }
            open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        });
        if let Err(error) = served {
            tracing::warn!(%error, "no thread for a connection");
            connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        }
    }
}

fn tick(shared: &Shared) {
    let mut state = shared.lock();
    while !state.stopping {
        let now = Instant::now();
        let aborted = transactions::abort_expired(&mut state, now);
        let moved = state.groups.expire(now);
        if aborted || moved {
            shared.wake();
        }
        let deadline = now + TICK;
        while Instant::now() < deadline && !state.stopping {
            state = shared.wait(state, deadline).0;
        }
    }
}

/// Reads frames and answers them until the peer leaves or sends what is not a request.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let peer = StrBytes::from_string(format!("/{}", stream.peer_addr()?.ip()));
    let mut reader = io::BufReader::with_capacity(64 << 10, stream.try_clone()?);
    loop {
        let mut length = [0_u8; 4];
        reader.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
        if !(MIN_FRAME_BYTES..=shared.config.max_frame_bytes).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        // What has begun comes to its end, or the connection does.
        stream.set_read_timeout(Some(FRAME_LIMIT))?;
        let mut request = Vec::new();
        (&mut reader).take(KEY_BYTES.min(length) as u64).read_to_end(&mut request)?;
        let is_produce = request.first_chunk() == Some(&[0, 0]);
        if !is_produce && length > crate::MAX_OTHER_FRAME_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        // Grows as bytes arrive: a length alone reserves nothing.
        (&mut reader).take((length - request.len()) as u64).read_to_end(&mut request)?;
        stream.set_read_timeout(None)?;
        if request.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(response) = answer(shared, Bytes::from(request), &peer)? {
            stream.write_all(&response)?;
        }
    }
}

/// The answer to one request, framed; `None` where none is wanted.
fn answer(shared: &Shared, mut request: Bytes, peer: &StrBytes) -> io::Result<Option<Bytes>> {
    let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let (key, version) = match request.first_chunk::<4>() {
        Some([a, b, c, d]) => (i16::from_be_bytes([*a, *b]), i16::from_be_bytes([*c, *d])),
        None => return Err(malformed("a frame without a header".into())),
    };
    let Some(api) = frame::find(key, version) else {
        return unsupported(key, &request).ok_or_else(|| malformed(format!("request {key} version {version}")));
    };
    let header =
        decode_request_header_from_buffer(&mut request).map_err(|error| malformed(format!("header: {error}")))?;
    if !frame::is_sound(api, version, &request) {
        return Err(malformed(format!("{:?} version {version}: a length that does not fit", api.key)));
    }
    let kind = RequestKind::decode(api.key, &mut request, version)
        .map_err(|error| malformed(format!("{:?} version {version}: {error}", api.key)))?;
    let client = header.client_id.unwrap_or_default();
    let Some(response) = dispatch(shared, kind, version, &group::Client { id: client, host: peer.clone() }) else {
        return Ok(None);
    };
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(header.correlation_id);
    header
        .encode(&mut out, response.header_version(version))
        .and_then(|()| response.encode(&mut out, version))
        .map_err(|error| malformed(format!("answer to {:?} version {version}: {error}", api.key)))?;
    let length = i32::try_from(out.len() - 4).map_err(|_| malformed("an answer over 2 GiB".into()))?;
    if let Some(prefix) = out.first_chunk_mut::<4>() {
        *prefix = length.to_be_bytes();
    }
    Ok(Some(out.freeze()))
}

/// The answer to a version question that is too new: the table in version 0, as every Kafka does.
fn unsupported(key: i16, request: &Bytes) -> Option<Option<Bytes>> {
    if key != ApiKey::ApiVersions as i16 {
        return None;
    }
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.extend_from_slice(request.get(4..8)?);
    versions().with_error_code(UNSUPPORTED_VERSION).encode(&mut out, 0).ok()?;
    let length = i32::try_from(out.len() - 4).ok()?;
    *out.first_chunk_mut::<4>()? = length.to_be_bytes();
    Some(Some(out.freeze()))
}

fn versions() -> ApiVersionsResponse {
    let keys = frame::APIS.iter().map(|api| {
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(api.min).with_max_version(api.max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

fn dispatch(shared: &Shared, request: RequestKind, version: i16, client: &group::Client) -> Option<ResponseKind> {
    use RequestKind as Q;
    use ResponseKind as A;
    Some(match request {
        Q::ApiVersions(_) => A::ApiVersions(versions()),
        Q::Produce(request) => A::Produce(records::produce(shared, request)?),
        Q::Fetch(request) => A::Fetch(records::fetch(shared, &request)),
        Q::ListOffsets(request) => A::ListOffsets(records::list_offsets(shared, request, version)),
        Q::DeleteRecords(request) => A::DeleteRecords(records::delete_records(shared, request)),
        Q::Metadata(request) => A::Metadata(topics::metadata(shared, request, version)),
        Q::FindCoordinator(request) => A::FindCoordinator(topics::find_coordinator(shared, request, version)),
        Q::CreateTopics(request) => A::CreateTopics(topics::create(shared, request)),
        Q::DeleteTopics(request) => A::DeleteTopics(topics::delete(shared, request)),
        Q::CreatePartitions(request) => A::CreatePartitions(topics::grow(shared, request)),
        Q::DescribeConfigs(request) => A::DescribeConfigs(topics::describe_settings(shared, request)),
        Q::InitProducerId(request) => A::InitProducerId(transactions::init_producer_id(shared, &request)),
        Q::AddPartitionsToTxn(request) => A::AddPartitionsToTxn(transactions::add_partitions(shared, request)),
        Q::AddOffsetsToTxn(request) => A::AddOffsetsToTxn(transactions::add_offsets(shared, &request)),
        Q::TxnOffsetCommit(request) => A::TxnOffsetCommit(transactions::commit_offsets(shared, request)),
        Q::EndTxn(request) => A::EndTxn(transactions::end_transaction(shared, &request)),
        Q::JoinGroup(request) => A::JoinGroup(classic::join(shared, &request, version, client)),
        Q::SyncGroup(request) => A::SyncGroup(classic::sync(shared, request)),
        Q::Heartbeat(request) => A::Heartbeat(classic::heartbeat(shared, &request)),
        Q::LeaveGroup(request) => A::LeaveGroup(classic::leave(shared, request, version)),
        Q::ConsumerGroupHeartbeat(request) => A::ConsumerGroupHeartbeat(consumer::heartbeat(shared, &request, client)),
        Q::ConsumerGroupDescribe(request) => A::ConsumerGroupDescribe(consumer::describe(shared, request)),
        Q::OffsetCommit(request) => A::OffsetCommit(offsets::commit(shared, request)),
        Q::OffsetFetch(request) => A::OffsetFetch(offsets::fetch(shared, request, version)),
        Q::DescribeGroups(request) => A::DescribeGroups(groups::describe(shared, request)),
        Q::ListGroups(request) => A::ListGroups(groups::list(shared, &request)),
        Q::DeleteGroups(request) => A::DeleteGroups(groups::delete(shared, request)),
        // Not in the version table, so not decoded.
        _ => return None,
    })
}
