//! A loss that an operator accepts, at one place and nowhere else.

use std::str::FromStr;

/// A place in a partition, written `topic/partition@position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    topic: String,
    partition: i32,
    position: i64,
}

impl Accepted {
    /// The place as it is written.
    #[must_use]
    pub fn place(topic: &str, partition: i32, position: i64) -> String {
        format!("{topic}/{partition}@{position}")
    }
}

/// The places at which a loss is accepted, with commas between; none where the text is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedPlaces(Vec<Accepted>);

impl AcceptedPlaces {
    /// Whether a loss is accepted at this place.
    #[must_use]
    pub fn cover(&self, topic: &str, partition: i32, position: i64) -> bool {
        self.0.iter().any(|at| at.topic == topic && at.partition == partition && at.position == position)
    }
}

impl FromStr for AcceptedPlaces {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let places = text.split(',').filter(|place| !place.is_empty()).map(str::parse);
        places.collect::<Result<_, String>>().map(Self)
    }
}

impl FromStr for Accepted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (topic, place) = text.rsplit_once('/')?;
            let (partition, position) = place.split_once('@')?;
            let topic = Some(topic.to_owned()).filter(|topic| !topic.is_empty())?;
            Some(Self { topic, partition: partition.parse().ok()?, position: position.parse().ok()? })
        };
        parse().ok_or_else(|| "a place is TOPIC/PARTITION@POSITION, as the service names it when it stops".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written_and_acts_only_there() {
        let accepted: AcceptedPlaces = format!("a/0@1,{}", Accepted::place("wikipedia-raw", 3, 128)).parse().unwrap();
        let covers = |topic, partition, position| accepted.cover(topic, partition, position);
        assert!(covers("wikipedia-raw", 3, 128));
        assert!(!covers("wikipedia-raw", 3, 129) && !covers("wikipedia-raw", 2, 128) && !covers("raw", 3, 128));
        assert_eq!("".parse(), Ok(AcceptedPlaces::default()), "as compose passes on what is not set");
        for wrong in ["true", "a/b@c", "/3@1", "a@3/1"] {
            assert!(wrong.parse::<AcceptedPlaces>().is_err(), "{wrong}");
        }
    }
}
