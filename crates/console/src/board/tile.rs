//! Who owns a partition, from what the sinks say and what the broker says.

use std::collections::{BTreeMap, BTreeSet};

use kafka::GroupDescription;
use serde::{Deserialize, Serialize};

use super::replica::{Hearing, Replica};

/// What a partition's tile shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TileState {
    /// One sink owns it, and nobody says otherwise.
    Owned,
    /// Its owner is asked to give it back.
    Leaving,
    /// Given back, and not yet taken on: it stands still.
    InFlight,
    /// The broker gave it to a sink that has not taken it on yet.
    Arriving,
    /// Two are said to own it.
    Disputed,
    /// Nobody is there to own it.
    #[default]
    Unowned,
}

/// Who owns a partition, and who is to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// What the tile shows.
    pub state: TileState,
    /// Everybody who is said to own it: one, unless it is disputed or nobody does.
    pub owners: Vec<String>,
    /// Who is to own it next, where that is known.
    pub target: Option<String>,
}

/// A group's description with its members under the names of the board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// When the question was asked, Unix milliseconds.
    pub at_ms: i64,
    /// The group as its coordinator described it.
    pub described: GroupDescription,
}

impl Look {
    /// Whether the description says who owns what: a classic group in the midst of a rebalance does not.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        let GroupDescription { state, protocol, .. } = &self.described;
        protocol.eq_ignore_ascii_case("consumer") || state.eq_ignore_ascii_case("stable")
    }

    /// Whether the group lists the member.
    #[must_use]
    pub fn lists(&self, member: &str) -> bool {
        self.described.members.iter().any(|listed| listed.id == member)
    }
}

/// What is known at one moment.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Sinks by name.
    pub replicas: &'a BTreeMap<String, Replica>,
    /// Names of members that ended, by member.
    pub former: &'a BTreeMap<String, String>,
    /// The broker's last word.
    pub look: Option<&'a Look>,
    /// Now, and since when we hear at all.
    pub hearing: Hearing,
}

impl Evidence<'_> {
    /// Who owns a partition.
    #[must_use]
    pub fn of(&self, topic: &str, partition: i32) -> Ownership {
        let claimants = self.claimants(partition);
        let held = self.held(topic, partition);
        let target = self.target(topic, partition);
        match (claimants.as_slice(), held) {
            ([], held) => self.unclaimed(held, target),
            ([one], held) => self.claimed(one, partition, &held, target),
            (several, _) => Ownership { state: TileState::Disputed, owners: several.to_vec(), target },
        }
    }

    /// Sinks that say they own it, and whose word counts.
    fn claimants(&self, partition: i32) -> Vec<String> {
        let claims = self.replicas.iter().filter(|(_, replica)| replica.status.owns(partition));
        claims.filter(|(_, replica)| self.counts(replica)).map(|(name, _)| name.clone()).collect()
    }

    /// A word counts while the sink speaks, unless the broker forgot it since and it has not spoken again.
    fn counts(&self, replica: &Replica) -> bool {
        let is_forgotten = self.look.is_some_and(|look| {
            replica.was_listed && look.at_ms > replica.heard_ms && !look.lists(&replica.status.member)
        });
        replica.is_speaking(self.hearing) && !is_forgotten
    }

    /// Who owns it by the broker's word; the outer `None` where the broker does not say.
    fn held(&self, topic: &str, partition: i32) -> Option<Option<Holder>> {
        let look = self.look.filter(|look| look.is_telling())?;
        let owns = |at: &kafka::TopicPartition| at.topic == topic && at.partition == partition;
        let holder = look.described.members.iter().find(|member| member.owned.iter().any(owns));
        let holder = holder.map(|member| self.holder(&member.id, &member.client_id));
        // A look of before the owner gave it back knows nothing of where it is now.
        let is_outdated = matches!(&holder, Some(Holder::Speaking(name))
            if self.replicas.get(name).is_some_and(|replica| replica.gave_back_since(partition, look.at_ms)));
        (!is_outdated).then_some(holder)
    }

    fn holder(&self, member: &str, client_id: &str) -> Holder {
        if let Some((name, replica)) = self.replicas.iter().find(|(_, replica)| replica.status.member == member) {
            return if self.counts(replica) { Holder::Speaking(name.clone()) } else { Holder::Gone };
        }
        if self.former.contains_key(member) {
            return Holder::Gone;
        }
        // A sink that has not told its member yet goes by its client's name.
        match self.replicas.get(client_id) {
            Some(replica) if self.counts(replica) => Holder::Speaking(client_id.to_owned()),
            Some(_) => Holder::Gone,
            None => Holder::Unheard(client_id.to_owned()),
        }
    }

    /// Who is to own it by the broker's word (KIP-848).
    fn target(&self, topic: &str, partition: i32) -> Option<String> {
        let look = self.look.filter(|look| look.is_telling())?;
        let wants = |targets: &BTreeSet<kafka::TopicPartition>| {
            targets.iter().any(|at| at.topic == topic && at.partition == partition)
        };
        let member = look.described.members.iter().find(|member| member.target.as_ref().is_some_and(wants))?;
        match self.holder(&member.id, &member.client_id) {
            Holder::Speaking(name) | Holder::Unheard(name) => Some(name),
            Holder::Gone => None,
        }
    }

    fn claimed(&self, one: &str, partition: i32, held: &Option<Option<Holder>>, target: Option<String>) -> Ownership {
        let owners = vec![one.to_owned()];
        let is_giving_back = self.replicas.get(one).is_some_and(|replica| replica.is_giving_back(partition));
        let goes_elsewhere = target.as_deref().is_some_and(|target| target != one);
        let target = target.filter(|target| target != one);
        let leaving = |owners| Ownership { state: TileState::Leaving, owners, target: target.clone() };
        match held {
            Some(Some(Holder::Speaking(other) | Holder::Unheard(other))) if other != one => {
                Ownership { state: TileState::Disputed, owners: vec![one.to_owned(), other.clone()], target }
            }
            Some(None) => leaving(owners),
            _ if is_giving_back || goes_elsewhere => leaving(owners),
            _ => Ownership { state: TileState::Owned, owners, target },
        }
    }

    fn unclaimed(&self, held: Option<Option<Holder>>, target: Option<String>) -> Ownership {
        match held.flatten() {
            Some(Holder::Unheard(name)) => Ownership { state: TileState::Owned, owners: vec![name], target },
            Some(Holder::Speaking(name)) => {
                Ownership { state: TileState::Arriving, owners: Vec::new(), target: Some(name) }
            }
            Some(Holder::Gone) | None => {
                let anybody = self.replicas.values().any(|replica| self.counts(replica))
                    || self.look.is_some_and(|look| !look.described.members.is_empty());
                let state = if anybody { TileState::InFlight } else { TileState::Unowned };
                Ownership { state, owners: Vec::new(), target }
            }
        }
    }
}

/// Whom the broker names.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// A sink whose word counts.
    Speaking(String),
    /// A member that says nothing to us, by its client's name.
    Unheard(String),
    /// A sink that ended or fell silent; the group has not noticed yet.
    Gone,
}
