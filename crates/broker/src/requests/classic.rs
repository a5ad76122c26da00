//! Requests of members of classic groups.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse, leave_group_response::MemberResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::group::Client;
use crate::group::classic::{LONGEST_WAIT, Phase};
use crate::limits::{self, Refused};
use crate::state::Shared;
use crate::text::own;
use crate::time::millis;

/// Joins, and waits until the round is complete.
pub(crate) fn join(shared: &Shared, request: JoinGroupRequest, version: i16, client: &Client) -> JoinGroupResponse {
    let failed = |error: ResponseError, id: &StrBytes| {
        JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(Some(StrBytes::new()))
            .with_member_id(id.clone())
    };
    let (mut id, group_id) = (own(&request.member_id), own(&request.group_id));
    if millis(request.session_timeout_ms) > limits::SESSION {
        return failed(shared.refused.refuse(Refused::Sessions), &id);
    }
    let mut state = shared.lock();
    if let Err(error) = state.groups.admits(&group_id, bytes_of(&request, client), &shared.refused) {
        return failed(error, &id);
    }
    if id.is_empty() {
        id = state.groups.name_member(client);
        match state.groups.classic(&group_id) {
            Err(error) => return failed(error, &id),
            Ok(group) => group.pending.insert(id.clone(), Instant::now()),
        };
        if version >= 4 {
            return failed(ResponseError::MemberIdRequired, &id);
        }
    }
    let admitted = state.groups.classic(&group_id).and_then(|group| {
        let from = group.generation;
        group.admit(&id, &request, client).map(|settled| (settled, from))
    });
    // What was asked is not held while others are waited for.
    drop(request);
    let (settled, from) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return failed(error, &id),
    };
    shared.wake();
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        let group = match state.groups.known_classic(&group_id) {
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

/// What a member costs.
fn bytes_of(request: &JoinGroupRequest, client: &Client) -> usize {
    let protocols = request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len());
    limits::ENTRY_BYTES + 2 * client.id.len() + request.protocol_type.len() + protocols.sum::<usize>()
}

/// Takes the leader's assignment, and waits for it otherwise.
pub(crate) fn sync(shared: &Shared, request: SyncGroupRequest) -> SyncGroupResponse {
    let failed = |error: ResponseError| SyncGroupResponse::default().with_error_code(error.code());
    let (id, group_id, generation) = (own(&request.member_id), own(&request.group_id), request.generation_id);
    let mut state = shared.lock();
    let deadline = Instant::now() + LONGEST_WAIT;
    let bytes = request.assignments.iter().map(|given| given.assignment.len()).sum();
    if let Err(error) = state.groups.admits(&group_id, bytes, &shared.refused) {
        return failed(error);
    }
    let is_leader = state.groups.known_classic(&group_id).is_ok_and(|group| group.leader == id);
    // Only the leader's count, and others wait here.
    let mut assignments: BTreeMap<StrBytes, Bytes> = BTreeMap::new();
    if is_leader {
        let given = request.assignments.iter();
        assignments = given.map(|given| (own(&given.member_id), Bytes::copy_from_slice(&given.assignment))).collect();
    }
    drop(request);
    loop {
        let group = match state.groups.known_classic(&group_id) {
            Ok(group) => group,
            Err(error) => return failed(error),
        };
        if let Err(error) = group.seen(&id, generation) {
            return failed(error);
        }
        match group.phase {
            Phase::Empty => return failed(ResponseError::UnknownMemberId),
            Phase::Joining { .. } => return failed(ResponseError::RebalanceInProgress),
            Phase::Syncing if group.leader == id => {
                for (id, member) in &mut group.members {
                    member.assignment = assignments.remove(id).unwrap_or_default();
                }
                group.phase = Phase::Stable;
                shared.wake();
            }
            Phase::Stable => {
                let assignment = group.members.get(&id).map(|member| member.assignment.clone());
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
    let result = state.groups.known_classic(&request.group_id).and_then(|group| {
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
        let removed = state.groups.known_classic(&request.group_id).and_then(|group| group.remove(id));
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
