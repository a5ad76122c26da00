//! Connections and frames: one thread each, requests answered in their order.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, RequestKind, ResponseHeader, ResponseKind, api_versions_response::ApiVersion,
};
use kafka_protocol::protocol::{Encodable, StrBytes, decode_request_header_from_buffer};
use rustix::process::{Resource, getrlimit};

use crate::connections::{Connections, Entry};
use crate::frame::Api;
use crate::limits::{self, Refused};
use crate::requests::{classic, consumer, fetch, groups, offsets, records, topics, transactions};
use crate::state::Shared;
use crate::text::own;
use crate::work::Room;
use crate::{Config, frame, group};

/// How often members and transactions are looked at for expiry.
const TICK: Duration = Duration::from_millis(200);
/// Key, version, correlation id: no request is shorter.
const MIN_FRAME_BYTES: usize = 8;
const UNSUPPORTED_VERSION: i16 = 35;

/// How long the accept loop rests after an error that will not go at once, such as no descriptor left.
const REST: Duration = Duration::from_millis(200);
/// The key of the request, at a frame's beginning.
const KEY_BYTES: usize = 2;
/// Read ahead of each connection.
const READ_BYTES: usize = 8 << 10;

/// The listener and its threads.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
}

impl Server {
    pub(crate) fn start(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port))?;
        let shared = Arc::new(Shared::new(listener.local_addr()?, config));
        let connections = Arc::new(Connections::new(most_connections()));
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

    pub(crate) fn refused(&self) -> Vec<u64> {
        self.shared.refused.met()
    }

    pub(crate) fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake();
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address()));
        self.connections.close_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// No more than half of the descriptors that this process may have.
fn most_connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
    descriptors.map_or(limits::CONNECTIONS, |descriptors| limits::CONNECTIONS.min((descriptors / 2).max(1)))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(512 << 10).spawn(body).map(|_| ())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, connections: &Arc<Connections>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.lock().stopping {
            return;
        }
        let socket = match stream {
            Ok(stream) => Arc::new(stream),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                thread::sleep(REST);
                continue;
            }
        };
        match connections.open(number, &socket) {
            Entry::Free => {}
            Entry::MadeRoom => shared.refused.add(Refused::Connections),
            Entry::Refused => {
                // Dropped here: its client tries again.
                shared.refused.add(Refused::Connections);
                continue;
            }
        }
        let (shared, open) = (Arc::clone(shared), Arc::clone(connections));
        let served = spawn("broker-connection", move || {
            let connection = Connection { number, socket, shared: &shared, connections: &open };
            if let Err(error) = connection.serve() {
                connection.count(&error);
                tracing::debug!(%error, "connection closed");
            }
            open.close(number);
        });
        if let Err(error) = served {
            tracing::warn!(%error, "no thread for a connection");
            connections.close(number);
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

/// One client's connection.
struct Connection<'a> {
    number: u64,
    socket: Arc<TcpStream>,
    shared: &'a Shared,
    connections: &'a Connections,
}

impl<'a> Connection<'a> {
    /// Reads frames and answers them until the peer leaves or sends what is not a request.
    fn serve(&self) -> io::Result<()> {
        self.socket.set_nodelay(true)?;
        self.socket.set_write_timeout(Some(limits::ANSWER_TIME))?;
        let peer = StrBytes::from_string(format!("/{}", self.socket.peer_addr()?.ip()));
        let mut reader = io::BufReader::with_capacity(READ_BYTES, &*self.socket);
        loop {
            let mut length = [0_u8; 4];
            reader.read_exact(&mut length)?;
            let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
            self.connections.set_busy(self.number, true);
            // What has begun comes to its end, or the connection does.
            self.socket.set_read_timeout(Some(limits::FRAME_TIME))?;
            let (request, room) = self.read(&mut reader, length)?;
            self.socket.set_read_timeout(None)?;
            if let Some((answer, room)) = self.answer(request, &peer, room)? {
                self.write(&answer)?;
                drop(room);
            }
            self.connections.set_busy(self.number, false);
        }
    }

    fn write(&self, answer: &[u8]) -> io::Result<()> {
        (&*self.socket).write_all(answer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                self.shared.refused.add(Refused::AnswerTime);
                io::Error::other("its answer was not read")
            }
            _ => error,
        })
    }

    /// A whole frame, and the room that it takes.
    fn read(&self, reader: &mut impl Read, length: usize) -> io::Result<(Bytes, Room<'a>)> {
        let refused = || io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes"));
        if !(MIN_FRAME_BYTES..=self.shared.config.max_frame_bytes).contains(&length) {
            return Err(refused());
        }
        let mut request = Vec::new();
        reader.take(KEY_BYTES as u64).read_to_end(&mut request)?;
        let is_produce = request.first_chunk() == Some(&[0, 0]);
        if !is_produce && length > crate::MAX_OTHER_FRAME_BYTES {
            return Err(refused());
        }
        let room = self.room(length)?;
        // Grows as bytes arrive: a length alone reserves nothing.
        reader.take((length - request.len()) as u64).read_to_end(&mut request)?;
        if request.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        room.is_whole();
        Ok((Bytes::from(request), room))
    }

    fn room(&self, bytes: usize) -> io::Result<Room<'a>> {
        let room = self.shared.work.room(bytes, &self.socket, &self.shared.refused);
        let no_room = || io::Error::new(io::ErrorKind::OutOfMemory, "there is no room for its request or answer");
        room.ok_or_else(no_room)
    }

    fn count(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::InvalidData => self.shared.refused.add(Refused::Frame),
            // Only a frame that has begun has a time.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.shared.refused.add(Refused::FrameTime),
            _ => {}
        }
    }
}

/// An answer, framed, and the room that it takes.
type Answer<'a> = (Bytes, Option<Room<'a>>);

/// A request and what its answer needs to know of it.
struct Asked {
    kind: RequestKind,
    version: i16,
    correlation_id: i32,
    client: group::Client,
}

fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<'a> Connection<'a> {
    /// The answer to one request; `None` where none is wanted.
    fn answer(&self, request: Bytes, peer: &StrBytes, room: Room<'a>) -> io::Result<Option<Answer<'a>>> {
        let (key, version) = match request.first_chunk::<4>() {
            Some([a, b, c, d]) => (i16::from_be_bytes([*a, *b]), i16::from_be_bytes([*c, *d])),
            None => return Err(malformed("a frame without a header")),
        };
        let Some(api) = frame::find(key, version) else {
            let answer = unsupported(key, &request);
            return Ok(Some((answer.ok_or_else(|| malformed(format!("request {key} version {version}")))?, None)));
        };
        let (asked, room) = self.decode(api, version, request, peer, room)?;
        let (version, correlation_id) = (asked.version, asked.correlation_id);
        let (response, fetched) = if let RequestKind::Fetch(request) = &asked.kind {
            let (response, room) = fetch::fetch(self.shared, request, |bytes| self.room(bytes))?;
            (ResponseKind::Fetch(response), Some(room))
        } else {
            let Some(response) = dispatch(self.shared, asked) else { return Ok(None) };
            (response, None)
        };
        drop(room);
        let bytes = long_answer_bytes(&response, version);
        if bytes > limits::ANSWER_BYTES {
            self.shared.refused.add(Refused::Answer);
            return Err(io::Error::other(format!("an answer of {bytes} bytes to {:?} version {version}", api.key)));
        }
        let room = fetched.map_or_else(|| self.room(bytes), Ok)?;
        let mut out = BytesMut::with_capacity(bytes + 64);
        out.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        header
            .encode(&mut out, response.header_version(version))
            .and_then(|()| response.encode(&mut out, version))
            .map_err(|error| malformed(format!("answer to {:?} version {version}: {error}", api.key)))?;
        let length = i32::try_from(out.len() - 4).map_err(|_| malformed("an answer over 2 GiB"))?;
        if let Some(prefix) = out.first_chunk_mut::<4>() {
            *prefix = length.to_be_bytes();
        }
        Ok(Some((out.freeze(), Some(room))))
    }

    /// The request in a frame, once there is room for what its elements cost.
    fn decode(
        &self,
        api: &Api,
        version: i16,
        mut request: Bytes,
        peer: &StrBytes,
        room: Room<'a>,
    ) -> io::Result<(Asked, Room<'a>)> {
        let bytes = request.len();
        let header =
            decode_request_header_from_buffer(&mut request).map_err(|error| malformed(format!("header: {error}")))?;
        let elements = frame::elements(api, version, &request)
            .ok_or_else(|| malformed(format!("{:?} version {version}: a length that does not fit", api.key)))?;
        drop(room);
        let room = self.room(bytes + elements * limits::ELEMENT_BYTES)?;
        // One that waits for records waits for others than this broker.
        if api.key != ApiKey::Fetch {
            room.is_whole();
        }
        let kind = RequestKind::decode(api.key, &mut request, version)
            .map_err(|error| malformed(format!("{:?} version {version}: {error}", api.key)))?;
        let client = group::Client { id: own(&header.client_id.unwrap_or_default()), host: peer.clone() };
        Ok((Asked { kind, version, correlation_id: header.correlation_id, client }, room))
    }
}

/// Bytes of an answer that can be long; of others 0.
fn long_answer_bytes(response: &ResponseKind, version: i16) -> usize {
    let bytes = match response {
        ResponseKind::Fetch(response) => response.compute_size(version),
        ResponseKind::Metadata(response) => response.compute_size(version),
        ResponseKind::OffsetFetch(response) => response.compute_size(version),
        ResponseKind::DescribeGroups(response) => response.compute_size(version),
        ResponseKind::ConsumerGroupDescribe(response) => response.compute_size(version),
        ResponseKind::JoinGroup(response) => response.compute_size(version),
        ResponseKind::DescribeConfigs(response) => response.compute_size(version),
        _ => Ok(0),
    };
    bytes.unwrap_or(usize::MAX)
}

/// The answer to a version question that is too new: the table in version 0, as every Kafka does.
fn unsupported(key: i16, request: &Bytes) -> Option<Bytes> {
    if key != ApiKey::ApiVersions as i16 {
        return None;
    }
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.extend_from_slice(request.get(4..8)?);
    versions().with_error_code(UNSUPPORTED_VERSION).encode(&mut out, 0).ok()?;
    let length = i32::try_from(out.len() - 4).ok()?;
    *out.first_chunk_mut::<4>()? = length.to_be_bytes();
    Some(out.freeze())
}

fn versions() -> ApiVersionsResponse {
    let keys = frame::APIS.iter().map(|api| {
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(api.min).with_max_version(api.max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

fn dispatch(shared: &Shared, asked: Asked) -> Option<ResponseKind> {
    use RequestKind as Q;
    use ResponseKind as A;
    let Asked { kind, version, client, .. } = asked;
    Some(match kind {
        Q::ApiVersions(_) => A::ApiVersions(versions()),
        Q::Produce(request) => A::Produce(records::produce(shared, request)?),
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
        Q::JoinGroup(request) => A::JoinGroup(classic::join(shared, request, version, &client)),
        Q::SyncGroup(request) => A::SyncGroup(classic::sync(shared, request)),
        Q::Heartbeat(request) => A::Heartbeat(classic::heartbeat(shared, &request)),
        Q::LeaveGroup(request) => A::LeaveGroup(classic::leave(shared, request, version)),
        Q::ConsumerGroupHeartbeat(request) => A::ConsumerGroupHeartbeat(consumer::heartbeat(shared, &request, &client)),
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
