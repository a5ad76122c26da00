//! Where reading begins.

use std::str::FromStr;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

/// How long the look for a time may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Earliest,
    Latest,
    /// This offset in each partition.
    Offset(i64),
    /// The first record that is not older, Unix milliseconds.
    Time(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => text.parse().map(Self::Offset).or_else(|_| {
                let time: jiff::Timestamp = text.parse().map_err(|_| {
                    "reading begins at earliest, latest, an offset such as 17, or a time such as 2026-07-01T12:00:00Z"
                        .to_owned()
                })?;
                Ok(Self::Time(time.as_millisecond()))
            }),
        }
    }
}

impl Start {
    /// Every partition of a topic, from here on.
    pub(crate) fn assignment<C: ConsumerContext>(
        self,
        consumer: &BaseConsumer<C>,
        topic: &str,
        partitions: i32,
    ) -> Result<TopicPartitionList, KafkaError> {
        let offset = match self {
            Self::Earliest => Offset::Beginning,
            Self::Latest => Offset::End,
            Self::Offset(offset) | Self::Time(offset) => Offset::Offset(offset),
        };
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            let offset = match self {
                // What is gone is said, and reading begins with what is left.
                Self::Offset(asked) => Offset::Offset(first_left(consumer, topic, partition, asked)?),
                _ => offset,
            };
            list.add_partition_offset(topic, partition, offset)?;
        }
        if matches!(self, Self::Time(_)) { consumer.offsets_for_times(list, ANSWER_LIMIT) } else { Ok(list) }
    }
}

fn first_left<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    asked: i64,
) -> Result<i64, KafkaError> {
    let (first, end) = consumer.fetch_watermarks(topic, partition, ANSWER_LIMIT)?;
    if asked < first {
        crate::out::say(format_args!(
            "wiki: offset {asked} of {topic}:{partition} is gone: reading from {first}, the first that is left"
        ));
    } else if asked > end {
        crate::out::say(format_args!("wiki: {topic}:{partition} ends at {end}: offset {asked} is not there yet"));
    }
    Ok(asked.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_an_offset_or_a_time() {
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert_eq!("17".parse(), Ok(Start::Offset(17)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Start::Time(1_000)));
        assert!("yesterday".parse::<Start>().is_err());
    }
}
