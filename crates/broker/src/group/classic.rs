//! The classic group protocol: join, sync, heartbeat, leave. The members compute the assignment.
//!
//! A round begins when someone joins, leaves or expires; it ends when every member has joined again or the
//! rebalance time-out is over. There is no initial delay: the first member owns everything at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse, join_group_response::JoinGroupResponseMember,
    leave_group_response::MemberResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Client, MemberClaim};
use crate::state::{Shared, millis};

/// How long a member that was only named may take to join with its name.
const PENDING_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait of one join or sync, whatever the members ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Empty,
    /// Waiting for every member to join the new round.
    Joining {
        deadline: Instant,
    },
    /// Joined; waiting for the leader's assignment.
    Syncing,
    Stable,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) assignment: Bytes,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    /// Name and metadata per assignment strategy, most wanted first.
    protocols: Vec<(StrBytes, Bytes)>,
    last_seen: Instant,
    joined: bool,
}

/// One classic group.
#[derive(Debug, Default)]
pub(crate) struct ClassicGroup {
    phase: Phase,
    generation: i32,
    protocol_type: StrBytes,
    protocol: StrBytes,
    leader: StrBytes,
    members: BTreeMap<StrBytes, Member>,
    /// Named, not yet joined.
    pending: BTreeMap<StrBytes, Instant>,
}

impl ClassicGroup {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What uses the group: consumers, unless a member said otherwise.
    pub(crate) fn protocol_type(&self) -> StrBytes {
        if self.protocol_type.is_empty() { StrBytes::from_static_str("consumer") } else { self.protocol_type.clone() }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&StrBytes, &Member)> {
        self.members.iter()
    }

    pub(crate) const fn protocol(&self) -> &StrBytes {
        &self.protocol
    }

    pub(crate) const fn state_name(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Joining { .. } => "PreparingRebalance",
            Phase::Syncing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    /// A member's metadata for the strategy in use.
    pub(crate) fn metadata_of(&self, member: &Member) -> Bytes {
        let chosen = member.protocols.iter().find(|(name, _)| *name == self.protocol);
        chosen.map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }

    pub(crate) fn check_claim(&self, claim: &MemberClaim<'_>) -> Result<(), ResponseError> {
        if !self.members.contains_key(claim.member) {
            return Err(ResponseError::UnknownMemberId);
        }
        if claim.epoch == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    /// Finds a member of the present generation and notes that it lives.
    fn seen(&mut self, id: &StrBytes, generation: i32) -> Result<&mut Member, ResponseError> {
        let current = self.generation;
        let member = self.members.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        if generation != current {
            return Err(ResponseError::IllegalGeneration);
        }
        member.last_seen = Instant::now();
        Ok(member)
    }

    fn begin_round(&mut self) {
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.generation += 1;
            return;
        }
        if !matches!(self.phase, Phase::Joining { .. }) {
            let longest = self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default();
            self.phase = Phase::Joining { deadline: Instant::now() + longest.min(LONGEST_WAIT) };
        }
        self.complete_round(Instant::now());
    }

    /// Ends the round if every member has joined, or if its time is over, without those that have not.
    fn complete_round(&mut self, now: Instant) -> bool {
        let Phase::Joining { deadline } = self.phase else { return false };
        if now >= deadline {
            self.members.retain(|_, member| member.joined);
        }
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.generation += 1;
            return true;
        }
        if !self.members.values().all(|member| member.joined) {
            return false;
        }
        self.generation += 1;
        self.protocol = self.elect_protocol();
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        for member in self.members.values_mut() {
            member.joined = false;
            member.last_seen = now;
        }
        self.phase = Phase::Syncing;
        true
    }

    /// The first strategy of the first member that all members know.
    fn elect_protocol(&self) -> StrBytes {
        let known_to_all =
            |name: &StrBytes| self.members.values().all(|member| member.protocols.iter().any(|known| known.0 == *name));
        let mut candidates = self.members.values().flat_map(|member| &member.protocols).map(|known| &known.0);
        candidates.find(|name| known_to_all(name)).cloned().unwrap_or_default()
    }

    /// Takes a member in, or notes that it joined again; says whether the present generation still fits it.
    fn admit(&mut self, id: &StrBytes, request: &JoinGroupRequest, client: &Client) -> Result<bool, ResponseError> {
        let protocols: Vec<(StrBytes, Bytes)> =
            request.protocols.iter().map(|protocol| (protocol.name.clone(), protocol.metadata.clone())).collect();
        if protocols.is_empty() || (!self.members.is_empty() && request.protocol_type != self.protocol_type) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let others = self.members.iter().filter(|(other, _)| *other != id);
        let common =
            |name: &StrBytes| others.clone().all(|(_, member)| member.protocols.iter().any(|known| known.0 == *name));
        if !protocols.iter().any(|(name, _)| common(name)) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let was_pending = self.pending.remove(id).is_some();
        let known = self.members.get(id);
        if known.is_none() && !was_pending {
            return Err(ResponseError::UnknownMemberId);
        }
        let unchanged = known.is_some_and(|member| member.protocols == protocols);
        let settled = match self.phase {
            Phase::Stable => *id != self.leader,
            Phase::Syncing => true,
            Phase::Empty | Phase::Joining { .. } => false,
        };
        let assignment = known.map_or_else(Bytes::new, |member| member.assignment.clone());
        let member = Member {
            client: client.clone(),
            assignment,
            session_timeout: millis(request.session_timeout_ms),
            rebalance_timeout: millis(request.rebalance_timeout_ms.max(request.session_timeout_ms)),
            protocols,
            last_seen: Instant::now(),
            joined: !(unchanged && settled),
        };
        self.protocol_type = request.protocol_type.clone();
        self.members.insert(id.clone(), member);
        if unchanged && settled {
            return Ok(true);
        }
        self.begin_round();
        Ok(false)
    }

    fn joined(&self, id: &StrBytes) -> JoinGroupResponse {
        let members = if self.leader == *id {
            let describe = |(id, member): (&StrBytes, &Member)| {
                JoinGroupResponseMember::default().with_member_id(id.clone()).with_metadata(self.metadata_of(member))
            };
            self.members.iter().map(describe).collect()
        } else {
            Vec::new()
        };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(Some(self.protocol_type.clone()))
            .with_protocol_name(Some(self.protocol.clone()))
            .with_leader(self.leader.clone())
            .with_member_id(id.clone())
            .with_members(members)
    }

    fn remove(&mut self, id: &StrBytes) -> Result<(), ResponseError> {
        self.pending.remove(id);
        self.members.remove(id).ok_or(ResponseError::UnknownMemberId)?;
        self.begin_round();
        Ok(())
    }

    /// Removes members whose session is over. Those that wait in a join or for the leader are held to no session.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        self.pending.retain(|_, named_at| now.duration_since(*named_at) < PENDING_TIMEOUT);
        let before = self.members.len();
        self.members.retain(|_, member| member.joined || now.duration_since(member.last_seen) < member.session_timeout);
        if self.members.len() < before {
            self.begin_round();
            return true;
        }
        self.complete_round(now)
    }
}

/// Joins, and waits until the round is complete.
pub(crate) fn join(shared: &Shared, request: &JoinGroupRequest, version: i16, client: &Client) -> JoinGroupResponse {
    let failed = |error: ResponseError, id: &StrBytes| {
        JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(Some(StrBytes::new()))
            .with_member_id(id.clone())
    };
    let mut state = shared.lock();
    let mut id = request.member_id.clone();
    if id.is_empty() {
        id = state.groups.name_member(client);
        match state.groups.classic(&request.group_id) {
            Err(error) => return failed(error, &id),
            Ok(group) => group.pending.insert(id.clone(), Instant::now()),
        };
        if version >= 4 {
            return failed(ResponseError::MemberIdRequired, &id);
        }
    }
    let admitted = state.groups.classic(&request.group_id).and_then(|group| {
        let from = group.generation;
        group.admit(&id, request, client).map(|settled| (settled, from))
    });
    let (settled, from) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return failed(error, &id),
    };
    shared.wake();
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        let group = match state.groups.classic(&request.group_id) {
            Ok(group) => group,
            Err(error) => return failed(error, &id),
        };
        if !group.members.contains_key(&id) {
            return failed(ResponseError::UnknownMemberId, &id);
        }
        if settled || group.generation > from {
            return group.joined(&id);
        }
        let (next, waiting) = shared.wait(state, deadline);
        if !waiting {
            return failed(ResponseError::RebalanceInProgress, &id);
        }
        state = next;
    }
}

/// Takes the leader's assignment, and waits for it otherwise.
pub(crate) fn sync(shared: &Shared, request: SyncGroupRequest) -> SyncGroupResponse {
    let failed = |error: ResponseError| SyncGroupResponse::default().with_error_code(error.code());
    let mut state = shared.lock();
    let deadline = Instant::now() + LONGEST_WAIT;
    let mut assignments: BTreeMap<StrBytes, Bytes> =
        request.assignments.into_iter().map(|given| (given.member_id, given.assignment)).collect();
    loop {
        let group = match state.groups.classic(&request.group_id) {
            Ok(group) => group,
            Err(error) => return failed(error),
        };
        if let Err(error) = group.seen(&request.member_id, request.generation_id) {
            return failed(error);
        }
        match group.phase {
            Phase::Empty => return failed(ResponseError::UnknownMemberId),
            Phase::Joining { .. } => return failed(ResponseError::RebalanceInProgress),
            Phase::Syncing if group.leader == request.member_id => {
                for (id, member) in &mut group.members {
                    member.assignment = assignments.remove(id).unwrap_or_default();
                }
                group.phase = Phase::Stable;
                shared.wake();
            }
            Phase::Stable => {
                let assignment = group.members.get(&request.member_id).map(|member| member.assignment.clone());
                return SyncGroupResponse::default()
                    .with_protocol_type(Some(group.protocol_type.clone()))
                    .with_protocol_name(Some(group.protocol.clone()))
                    .with_assignment(assignment.unwrap_or_default());
            }
            Phase::Syncing => {
                let (next, waiting) = shared.wait(state, deadline);
                if !waiting {
                    return failed(ResponseError::RebalanceInProgress);
                }
                state = next;
            }
        }
    }
}

/// Says whether a member should join again.
pub(crate) fn heartbeat(shared: &Shared, request: &HeartbeatRequest) -> HeartbeatResponse {
    let mut state = shared.lock();
    let result = state.groups.classic(&request.group_id).and_then(|group| {
        let phase = group.phase;
        group.seen(&request.member_id, request.generation_id)?;
        if matches!(phase, Phase::Joining { .. }) { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    });
    HeartbeatResponse::default().with_error_code(result.err().map_or(0, |error| error.code()))
}

/// Removes members that say goodbye.
pub(crate) fn leave(shared: &Shared, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let mut state = shared.lock();
    let mut remove = |id: &StrBytes| {
        let removed = state.groups.classic(&request.group_id).and_then(|group| group.remove(id));
        removed.err().map_or(0, |error| error.code())
    };
    let response = if version < 3 {
        LeaveGroupResponse::default().with_error_code(remove(&request.member_id))
    } else {
        let members = request.members.into_iter().map(|member| {
            let code = remove(&member.member_id);
            MemberResponse::default()
                .with_member_id(member.member_id)
                .with_group_instance_id(member.group_instance_id)
                .with_error_code(code)
        });
        LeaveGroupResponse::default().with_members(members.collect())
    };
    drop(state);
    shared.wake();
    response
}
