//! Topic requests: metadata, create, delete, grow, describe.

use std::collections::{HashMap, HashSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, MetadataRequest, MetadataResponse, TopicName,
    create_partitions_response::CreatePartitionsTopicResult,
    create_topics_request::CreatableTopic,
    create_topics_response::CreatableTopicResult,
    delete_topics_response::DeletableTopicResult,
    describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult},
    find_coordinator_response::Coordinator,
    metadata_request::MetadataRequestTopic,
    metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::catalog::Topic;
use crate::limits::{self, Refused};
use crate::log::Log;
use crate::settings::{self, DEFAULTS};
use crate::state::{NODE, Shared};
use crate::text::own;

const TOPIC_RESOURCE: i8 = 2;
/// Where a setting comes from: given for the topic.
const TOPIC_CONFIG: i8 = 1;
/// Where a setting comes from: the default.
const DEFAULT_CONFIG: i8 = 5;
const MAX_NAME: usize = 249;

/// The one broker, and the topics asked for.
pub(crate) fn metadata(shared: &Shared, request: MetadataRequest, version: i16) -> MetadataResponse {
    let state = shared.lock();
    // Version 0 asks for all with an empty list, later ones with null.
    let wanted = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => state.topics.iter().map(|(name, topic)| described(name, topic)).collect(),
        Some(wanted) => once(wanted)
            .map(|asked| {
                let found = match &asked.name {
                    Some(name) => state.topics.get(name).map(|topic| described(name, topic)),
                    None => state.topics.by_id(asked.topic_id).map(|(name, topic)| described(name, topic)),
                };
                found.unwrap_or_else(|| {
                    let error = if asked.name.is_some() {
                        ResponseError::UnknownTopicOrPartition
                    } else {
                        ResponseError::UnknownTopicId
                    };
                    let name = asked.name.or_else(|| (version < 12).then(TopicName::default));
                    MetadataResponseTopic::default()
                        .with_error_code(error.code())
                        .with_name(name)
                        .with_topic_id(asked.topic_id)
                })
            })
            .collect(),
    };
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE))
        .with_host(host(shared))
        .with_port(i32::from(shared.address.port()));
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_static_str("embedded")))
        .with_controller_id(BrokerId(NODE))
        .with_topics(topics)
}

/// Each topic once, however often it is asked for.
fn once(wanted: Vec<MetadataRequestTopic>) -> impl Iterator<Item = MetadataRequestTopic> {
    let mut seen = HashSet::new();
    wanted.into_iter().filter(move |asked| seen.insert((asked.name.clone(), asked.topic_id)))
}

fn described(name: &StrBytes, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(index, _)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE))
            .with_leader_epoch(0)
            .with_replica_nodes(vec![BrokerId(NODE)])
            .with_isr_nodes(vec![BrokerId(NODE)])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(name.clone())))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

fn host(shared: &Shared) -> StrBytes {
    StrBytes::from_string(shared.address.ip().to_string())
}

/// Every group and every transaction is coordinated here.
pub(crate) fn find_coordinator(
    shared: &Shared,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    let port = i32::from(shared.address.port());
    if version < 4 {
        return FindCoordinatorResponse::default().with_node_id(BrokerId(NODE)).with_host(host(shared)).with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default().with_key(key).with_node_id(BrokerId(NODE)).with_host(host(shared)).with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

/// Creates topics; one that exists is an error of its own, so that creating is idempotent for the caller.
pub(crate) fn create(shared: &Shared, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut state = shared.lock();
    let mut response = CreateTopicsResponse::default();
    for wanted in request.topics {
        let answer = CreatableTopicResult::default().with_name(wanted.name.clone());
        let checked = check_new(&wanted).and_then(|partitions| {
            let exists = state.topics.get(&wanted.name).is_some();
            if exists { Err(ResponseError::TopicAlreadyExists) } else { Ok(partitions) }
        });
        let in_all = state.topics.partitions();
        let checked = checked.and_then(|partitions| {
            let fits = in_all + partitions <= limits::PARTITIONS;
            if fits { Ok(partitions) } else { Err(shared.refused.refuse(Refused::Partitions)) }
        });
        let answer = match checked {
            Err(error) => answer.with_error_code(error.code()).with_error_message(Some(message(error))),
            Ok(partitions) => {
                let settings =
                    wanted.configs.into_iter().filter_map(|config| Some((own(&config.name), own(&config.value?))));
                let topic = Topic::new(partitions, settings.collect());
                let id = topic.id;
                if !request.validate_only {
                    state.topics.insert(own(&wanted.name), topic);
                }
                answer
                    .with_topic_id(id)
                    .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
                    .with_replication_factor(1)
                    .with_configs(Some(Vec::new()))
            }
        };
        response.topics.push(answer);
    }
    drop(state);
    shared.wake();
    response
}

/// The partition count of a topic to be made. More than one replica is accepted and ignored: one node, one copy.
fn check_new(wanted: &CreatableTopic) -> Result<usize, ResponseError> {
    let name = wanted.name.as_str();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_NAME || matches!(name, "." | "..") || !name.bytes().all(legal) {
        return Err(ResponseError::InvalidTopicException);
    }
    let partitions = match (wanted.num_partitions, wanted.assignments.len()) {
        (-1, 0) => 1,
        (-1, assigned) => i32::try_from(assigned).unwrap_or(i32::MAX),
        (asked, _) => asked,
    };
    if !(1..=limits::PARTITIONS_OF_A_TOPIC).contains(&partitions) {
        return Err(ResponseError::InvalidPartitions);
    }
    // One node holds one copy, as Apache Kafka sees it too.
    if !matches!(wanted.replication_factor, -1 | 1) {
        return Err(ResponseError::InvalidReplicationFactor);
    }
    let set = wanted.configs.iter().filter_map(|config| Some((&config.name, config.value.as_ref()?)));
    if !set.into_iter().all(|(name, value)| value.len() <= limits::SETTING_BYTES && settings::is_valid(name, value)) {
        return Err(ResponseError::InvalidConfig);
    }
    usize::try_from(partitions).map_err(|_| ResponseError::InvalidPartitions)
}

fn message(error: ResponseError) -> StrBytes {
    StrBytes::from_string(error.to_string())
}

/// Deletes topics with their records.
pub(crate) fn delete(shared: &Shared, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut state = shared.lock();
    let responses = request.topic_names.into_iter().map(|name| {
        let removed = state.topics.remove(&name);
        let code = if removed.is_some() { 0 } else { ResponseError::UnknownTopicOrPartition.code() };
        DeletableTopicResult::default()
            .with_topic_id(removed.map_or(Uuid::nil(), |topic| topic.id))
            .with_error_code(code)
            .with_name(Some(name))
    });
    let response = DeleteTopicsResponse::default().with_responses(responses.collect());
    drop(state);
    shared.wake();
    response
}

/// Adds partitions.
pub(crate) fn grow(shared: &Shared, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut state = shared.lock();
    let results = request.topics.into_iter().map(|wanted| {
        let in_all = state.topics.partitions();
        let code = match (state.topics.get_mut(&wanted.name), usize::try_from(wanted.count)) {
            (None, _) => ResponseError::UnknownTopicOrPartition.code(),
            (Some(topic), Ok(count))
                if count > topic.partitions.len() && wanted.count <= limits::PARTITIONS_OF_A_TOPIC =>
            {
                if in_all - topic.partitions.len() + count > limits::PARTITIONS {
                    shared.refused.refuse(Refused::Partitions).code()
                } else {
                    if !request.validate_only {
                        topic.partitions.resize_with(count, Log::default);
                    }
                    0
                }
            }
            (Some(_), _) => ResponseError::InvalidPartitions.code(),
        };
        CreatePartitionsTopicResult::default().with_name(wanted.name).with_error_code(code)
    });
    let response = CreatePartitionsResponse::default().with_results(results.collect());
    drop(state);
    shared.wake();
    response
}

/// The settings of topics; of the broker it has none to show.
pub(crate) fn describe_settings(shared: &Shared, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let state = shared.lock();
    let mut seen = HashSet::new();
    let asked = request.resources.into_iter();
    let asked = asked.filter(|resource| seen.insert((resource.resource_type, resource.resource_name.clone())));
    let results = asked.map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        if resource.resource_type != TOPIC_RESOURCE {
            return result;
        }
        let Some(topic) = state.topics.get(&resource.resource_name) else {
            return result.with_error_code(ResponseError::UnknownTopicOrPartition.code());
        };
        let mut settings: HashMap<StrBytes, (StrBytes, i8)> = DEFAULTS
            .iter()
            .map(|(name, value)| (StrBytes::from_static_str(name), (StrBytes::from_static_str(value), DEFAULT_CONFIG)))
            .collect();
        settings.extend(topic.settings.iter().map(|(name, value)| (name.clone(), (value.clone(), TOPIC_CONFIG))));
        let wanted = |name: &StrBytes| resource.configuration_keys.as_ref().is_none_or(|keys| keys.contains(name));
        let configs = settings.into_iter().filter(|(name, _)| wanted(name)).map(|(name, (value, source))| {
            DescribeConfigsResourceResult::default().with_name(name).with_value(Some(value)).with_config_source(source)
        });
        result.with_configs(configs.collect())
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}
