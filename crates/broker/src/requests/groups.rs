//! Groups listed, described, deleted.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
    delete_groups_response::DeletableGroupResult,
    describe_groups_response::{DescribedGroup, DescribedGroupMember},
    list_groups_response::ListedGroup,
};
use kafka_protocol::protocol::StrBytes;

use crate::group::Group;
use crate::state::Shared;

/// Groups with their state and type.
pub(crate) fn list(shared: &Shared, request: &ListGroupsRequest) -> ListGroupsResponse {
    let state = shared.lock();
    let admits = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.as_str().eq_ignore_ascii_case(value))
    };
    let mut groups = Vec::new();
    for (id, group) in &state.groups.by_id {
        let (kind, protocol_type) = match group {
            Group::Classic(group) => ("classic", group.protocol_type()),
            Group::Consumer(_) => ("consumer", StrBytes::from_static_str("consumer")),
        };
        if admits(&request.states_filter, group.state_name()) && admits(&request.types_filter, kind) {
            groups.push(
                ListedGroup::default()
                    .with_group_id(GroupId(id.clone()))
                    .with_protocol_type(protocol_type)
                    .with_group_state(StrBytes::from_static_str(group.state_name()))
                    .with_group_type(StrBytes::from_static_str(kind)),
            );
        }
    }
    ListGroupsResponse::default().with_groups(groups)
}

/// Classic groups with their members; others are "dead" in this request, as on Kafka.
pub(crate) fn describe(shared: &Shared, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let state = shared.lock();
    // Each once, however often it is asked for.
    let asked: BTreeSet<GroupId> = request.groups.into_iter().collect();
    let groups = asked.into_iter().map(|id| {
        let answer = DescribedGroup::default().with_authorized_operations(i32::MIN);
        let Some(Group::Classic(group)) = state.groups.by_id.get(&id.0) else {
            return answer.with_group_id(id).with_group_state(StrBytes::from_static_str("Dead"));
        };
        let members = group.members().map(|(member_id, member)| {
            DescribedGroupMember::default()
                .with_member_id(member_id.clone())
                .with_client_id(member.client.id.clone())
                .with_client_host(member.client.host.clone())
                .with_member_metadata(group.metadata_of(member))
                .with_member_assignment(member.assignment.clone())
        });
        answer
            .with_group_id(id)
            .with_group_state(StrBytes::from_static_str(group.state_name()))
            .with_protocol_type(group.protocol_type())
            .with_protocol_data(group.protocol().clone())
            .with_members(members.collect())
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

/// Deletes empty groups with their offsets.
pub(crate) fn delete(shared: &Shared, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut state = shared.lock();
    let results = request.groups_names.into_iter().map(|id| {
        let groups = &mut state.groups;
        let code = if groups.has_members(&id) {
            ResponseError::NonEmptyGroup.code()
        } else {
            let known = groups.by_id.remove(&id.0).is_some() | groups.offsets.remove(&id.0);
            if known { 0 } else { ResponseError::GroupIdNotFound.code() }
        };
        DeletableGroupResult::default().with_group_id(id).with_error_code(code)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
