//! The classic group protocol: join, sync, heartbeat, leave. The members compute the assignment.
//!
//! A round begins when someone joins, leaves or expires; it ends when every member has joined again or the
//! rebalance time-out is over. There is no initial delay: the first member owns everything at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, join_group_response::JoinGroupResponseMember};
use kafka_protocol::protocol::StrBytes;

use super::{Client, MemberClaim};
use crate::limits::ENTRY_BYTES;
use crate::text::own;
use crate::time::millis;

/// How long a member that was only named may take to join with its name.
pub(crate) const PENDING_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait of one join or sync, whatever the members ask for.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
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
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// Name and metadata per assignment strategy, most wanted first.
    pub(crate) protocols: Vec<(StrBytes, Bytes)>,
    pub(crate) last_seen: Instant,
    pub(crate) joined: bool,
}

/// One classic group.
#[derive(Debug, Default)]
pub(crate) struct ClassicGroup {
    pub(crate) phase: Phase,
    pub(crate) generation: i32,
    pub(crate) protocol_type: StrBytes,
    pub(crate) protocol: StrBytes,
    pub(crate) leader: StrBytes,
    pub(crate) members: BTreeMap<StrBytes, Member>,
    /// Named, not yet joined.
    pub(crate) pending: BTreeMap<StrBytes, Instant>,
}

impl ClassicGroup {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What its members cost, and those that were named.
    pub(crate) fn bytes(&self) -> usize {
        let pending = self.pending.keys().map(|id| ENTRY_BYTES + id.len());
        let members = self.members.iter().map(|(id, member)| {
            let protocols = member.protocols.iter().map(|(name, metadata)| name.len() + metadata.len());
            ENTRY_BYTES + id.len() + member.client.id.len() + member.assignment.len() + protocols.sum::<usize>()
        });
        pending.sum::<usize>() + members.sum::<usize>()
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
    pub(crate) fn seen(&mut self, id: &StrBytes, generation: i32) -> Result<&mut Member, ResponseError> {
        let current = self.generation;
        let member = self.members.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        if generation != current {
            return Err(ResponseError::IllegalGeneration);
        }
        member.last_seen = Instant::now();
        Ok(member)
    }

    pub(crate) fn begin_round(&mut self) {
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
    pub(crate) fn complete_round(&mut self, now: Instant) -> bool {
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
    pub(crate) fn elect_protocol(&self) -> StrBytes {
        let known_to_all =
            |name: &StrBytes| self.members.values().all(|member| member.protocols.iter().any(|known| known.0 == *name));
        let mut candidates = self.members.values().flat_map(|member| &member.protocols).map(|known| &known.0);
        candidates.find(|name| known_to_all(name)).cloned().unwrap_or_default()
    }

    /// Takes a member in, or notes that it joined again; says whether the present generation still fits it.
    pub(crate) fn admit(
        &mut self,
        id: &StrBytes,
        request: &JoinGroupRequest,
        client: &Client,
    ) -> Result<bool, ResponseError> {
        let asked = request.protocols.iter();
        let protocols: Vec<(StrBytes, Bytes)> =
            asked.map(|protocol| (own(&protocol.name), Bytes::copy_from_slice(&protocol.metadata))).collect();
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
        self.protocol_type = own(&request.protocol_type);
        self.members.insert(id.clone(), member);
        if unchanged && settled {
            return Ok(true);
        }
        self.begin_round();
        Ok(false)
    }

    pub(crate) fn joined(&self, id: &StrBytes) -> JoinGroupResponse {
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

    pub(crate) fn remove(&mut self, id: &StrBytes) -> Result<(), ResponseError> {
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
