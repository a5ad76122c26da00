//! The board: who owns which partition, by the sinks' own words and by the broker's. Pure; time is an argument.
//!
//! | module | what |
//! | --- | --- |
//! | [`replica`] | sinks by name, in their latest run; their letters |
//! | [`tile`] | who owns a partition, from both truths |
//! | [`rebalances`] | the log: causes, moves, pauses |
//! | [`timeline`] | ten minutes of it |
//! | [`view`] | all of it as JSON |

pub mod rebalances;
pub mod replica;
pub mod tile;
pub mod timeline;
pub mod view;

use std::collections::{BTreeMap, VecDeque};

use schema::control::{Moment, SinkStatus};

use crate::picture::Picture;
use rebalances::{Cause, Owners, Pause, Rebalance, RebalanceLog, Standing};
use replica::{End, Hearing, Letters, Replica};
use tile::{Evidence, Look, Ownership, TileState};
use timeline::{Span, Timeline};

/// A partition that moved more than [`FLAPPING_MOVES`] times within this flaps.
const FLAPPING_MS: i64 = 300_000;
/// See [`FLAPPING_MS`].
const FLAPPING_MOVES: usize = 3;
/// A disagreement counts as one after this: words and looks do not come at the same moment.
const CONFLICT_MS: i64 = 2_000;
/// Without any word or look for this long we hear nothing, and judge nobody.
const DEAF_MS: i64 = 2_500;
/// Former members remembered.
const FORMER: usize = 1_000;

/// A partition's tile.
#[derive(Clone, Debug, Default)]
struct Tile {
    ownership: Ownership,
    since_ms: i64,
    /// Since when it stands still, and who had it.
    still_since_ms: Option<i64>,
    last_owner: Option<String>,
    moves: VecDeque<i64>,
}

/// What came of something that was heard or seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Something changed that everybody should see.
    pub is_changed: bool,
    /// A rebalance that is over.
    pub over: Option<Rebalance>,
    /// Why something moves.
    pub causes: Vec<Cause>,
    /// Partitions taken on, with how long each had stood still, and the protocol.
    pub pauses: Vec<(Pause, String)>,
}

/// The board.
#[derive(Clone, Debug)]
pub struct Board {
    topic: String,
    replicas: BTreeMap<String, Replica>,
    former: BTreeMap<String, String>,
    letters: Letters,
    look: Option<Look>,
    picture: Picture,
    tiles: BTreeMap<i32, Tile>,
    timeline: Timeline,
    log: RebalanceLog,
    protocol: String,
    /// When anything was heard or seen last, and since when that goes without a gap.
    evidence_ms: i64,
    hearing_since_ms: i64,
}

impl Board {
    /// An empty board of one topic.
    #[must_use]
    pub fn new(topic: String) -> Self {
        Self {
            topic,
            replicas: BTreeMap::new(),
            former: BTreeMap::new(),
            letters: Letters::default(),
            look: None,
            picture: Picture::default(),
            tiles: BTreeMap::new(),
            timeline: Timeline::default(),
            log: RebalanceLog::default(),
            protocol: String::new(),
            evidence_ms: 0,
            hearing_since_ms: 0,
        }
    }

    /// A sink said something at `at_ms`.
    pub fn heard(&mut self, status: SinkStatus, at_ms: i64) -> Outcome {
        self.hear(at_ms);
        let (name, before) = (status.replica.clone(), self.owners());
        let mut causes = self.take_in(status, at_ms);
        causes.extend(self.give_up_who_was_robbed(&name, at_ms));
        self.letters.slot(&name, at_ms);
        self.refresh(at_ms, &before, causes)
    }

    fn take_in(&mut self, status: SinkStatus, at_ms: i64) -> Vec<Cause> {
        let name = status.replica.clone();
        for owned in &status.owned {
            self.tiles.entry(owned.partition).or_default();
        }
        let mut causes = Vec::new();
        let is_leaving = status.moment == Moment::Leaving;
        match self.replicas.get_mut(&name) {
            Some(known) if known.status.run == status.run => {
                let was_here = known.ended.is_none();
                let member = known.status.member.clone();
                known.hear(status, at_ms);
                let now = known.status.member.clone();
                match (was_here, known.ended.is_none()) {
                    (true, false) => causes.push(Cause::Left(name.clone())),
                    (false, true) => causes.push(Cause::Joined(name.clone())),
                    _ => {}
                }
                if !member.is_empty() && member != now {
                    self.forget_member(member, &name);
                }
            }
            // A word of an earlier run that comes late.
            Some(known) if known.status.started_at_ms > status.started_at_ms => {}
            known => {
                if let Some(known) = known {
                    let (member, was_here) = (known.status.member.clone(), known.ended.is_none());
                    if was_here {
                        causes.push(Cause::Lost(name.clone()));
                    }
                    self.forget_member(member, &name);
                }
                if !is_leaving {
                    causes.push(Cause::Joined(name.clone()));
                }
                self.replicas.insert(name, Replica::new(status, at_ms));
            }
        }
        causes
    }

    /// A silent sink whose partition another one has taken on is lost: the group has given it up.
    fn give_up_who_was_robbed(&mut self, by: &str, at_ms: i64) -> Vec<Cause> {
        let hearing = self.hearing(at_ms);
        let Some(taker) = self.replicas.get(by).map(|replica| replica.status.clone()) else { return Vec::new() };
        let mut lost = Vec::new();
        for (name, replica) in self.replicas.iter_mut().filter(|(name, _)| *name != by) {
            let is_robbed = replica.status.owned.iter().any(|owned| taker.owns(owned.partition));
            if replica.ended.is_none() && is_robbed && !replica.is_speaking(hearing) {
                replica.ended = Some((End::Lost, at_ms));
                lost.push(Cause::Lost(name.clone()));
            }
        }
        lost
    }

    fn forget_member(&mut self, member: String, name: &str) {
        if self.former.len() >= FORMER {
            self.former.clear();
        }
        self.former.insert(member, name.to_owned());
    }

    /// The broker said something; the question was asked at `at_ms`.
    pub fn looked(&mut self, picture: Picture, at_ms: i64) -> Outcome {
        if self.look.as_ref().is_some_and(|look| look.at_ms > at_ms) {
            return Outcome::default();
        }
        self.hear(at_ms);
        let before = self.owners();
        let mut causes = Vec::new();
        if !self.tiles.is_empty() && self.look.is_some() && self.tiles.len() != picture.partitions.len() {
            causes.push(Cause::TopicChanged(picture.partitions.len()));
        }
        for at in picture.partitions.keys() {
            self.tiles.entry(at.partition).or_default();
        }
        let look = Look { at_ms, described: picture.described.clone() };
        let hearing = self.hearing(at_ms);
        for (name, replica) in &mut self.replicas {
            let is_listed = look.lists(&replica.status.member);
            replica.was_listed |= is_listed;
            let is_given_up = replica.was_listed && !is_listed && !replica.is_speaking(hearing);
            if replica.ended.is_none() && is_given_up {
                replica.ended = Some((End::Lost, at_ms));
                causes.push(Cause::Lost(name.clone()));
            }
        }
        for member in &look.described.members {
            let name = self.name_of(&member.id, &member.client_id).to_owned();
            self.letters.slot(&name, at_ms);
        }
        self.look = Some(look);
        self.picture = picture;
        self.refresh(at_ms, &before, causes)
    }

    /// Time has passed. While nothing is heard or seen the board stands as it was.
    pub fn passed(&mut self, now_ms: i64) -> Outcome {
        if now_ms - self.evidence_ms > DEAF_MS {
            return Outcome::default();
        }
        let before = self.owners();
        self.refresh(now_ms, &before, Vec::new())
    }

    fn hear(&mut self, at_ms: i64) {
        if at_ms - self.evidence_ms > DEAF_MS {
            self.hearing_since_ms = at_ms;
        }
        self.evidence_ms = self.evidence_ms.max(at_ms);
    }

    fn hearing(&self, now_ms: i64) -> Hearing {
        // In the midst of a gap nobody is silent either.
        Hearing { since_ms: self.hearing_since_ms, now_ms: now_ms.min(self.evidence_ms + DEAF_MS) }
    }

    fn name_of<'a>(&'a self, member: &str, client_id: &'a str) -> &'a str {
        let replica = self.replicas.iter().find(|(_, replica)| replica.status.member == member);
        let former = || self.former.get(member).map(String::as_str);
        replica.map(|(name, _)| name.as_str()).or_else(former).unwrap_or(client_id)
    }

    fn owners(&self) -> Owners {
        self.tiles.iter().map(|(partition, tile)| (*partition, tile.last_owner.clone())).collect()
    }

    /// Brings every tile up to what is known, and tells of what changed.
    fn refresh(&mut self, now_ms: i64, before: &Owners, causes: Vec<Cause>) -> Outcome {
        let hearing = self.hearing(now_ms);
        let evidence = Evidence { replicas: &self.replicas, former: &self.former, look: self.look.as_ref(), hearing };
        let ownerships: Vec<(i32, Ownership)> =
            self.tiles.keys().map(|partition| (*partition, evidence.of(&self.topic, *partition))).collect();
        let mut outcome = Outcome { is_changed: !causes.is_empty(), causes: causes.clone(), ..Outcome::default() };
        let (protocol, generation) = self.told();
        let standing = Standing { at_ms: now_ms, before, protocol: &protocol, generation };
        for cause in causes {
            self.log.caused(cause, &standing);
        }
        if !protocol.is_empty() && protocol != self.protocol {
            if !self.protocol.is_empty() {
                self.log.caused(Cause::ProtocolChanged(protocol.clone()), &standing);
            }
            self.protocol.clone_from(&protocol);
        }
        for (partition, ownership) in ownerships {
            self.show(partition, ownership, &standing, &mut outcome);
        }
        let is_at_rest = self.is_at_rest();
        outcome.over = self.log.settle(&self.owners(), is_at_rest, now_ms);
        outcome.is_changed |= outcome.over.is_some();
        outcome
    }

    /// The protocol and generation that the sinks name.
    fn told(&self) -> (String, i32) {
        let here = self.replicas.values().filter(|replica| replica.ended.is_none());
        let latest = here.max_by_key(|replica| (replica.status.generation, replica.heard_ms));
        latest.map(|replica| (replica.status.protocol.clone(), replica.status.generation)).unwrap_or_default()
    }

    fn show(&mut self, partition: i32, ownership: Ownership, standing: &Standing<'_>, outcome: &mut Outcome) {
        let released_ms = self.released_ms(partition, standing.at_ms);
        let Some(tile) = self.tiles.get_mut(&partition) else { return };
        if tile.ownership == ownership {
            return;
        }
        outcome.is_changed = true;
        let had_owner = !tile.ownership.owners.is_empty();
        tile.since_ms = standing.at_ms;
        tile.ownership = ownership;
        match tile.ownership.owners.first() {
            None if had_owner => {
                tile.still_since_ms = Some(released_ms);
                let standing = Standing { at_ms: released_ms, ..standing.clone() };
                self.log.changed(&standing);
            }
            None => {}
            Some(owner) => {
                if let Some(since_ms) = tile.still_since_ms.take() {
                    let pause = Pause { partition, milliseconds: (standing.at_ms - since_ms).max(0) };
                    self.log.paused(pause, standing);
                    outcome.pauses.push((pause, standing.protocol.to_owned()));
                }
                if tile.ownership.state != TileState::Disputed && tile.last_owner.as_ref() != Some(owner) {
                    let is_first = tile.last_owner.is_none();
                    tile.last_owner = Some(owner.clone());
                    if !is_first {
                        tile.moves.push_back(standing.at_ms);
                        self.log.changed(standing);
                    }
                }
            }
        }
        while tile.moves.front().is_some_and(|at_ms| standing.at_ms - at_ms > FLAPPING_MS) {
            tile.moves.pop_front();
        }
        self.note(partition, standing.at_ms.min(released_ms));
    }

    fn note(&mut self, partition: i32, from_ms: i64) {
        let Some(tile) = self.tiles.get(&partition) else { return };
        let owner = tile.ownership.owners.first().cloned();
        let letter = owner.as_ref().and_then(|owner| self.letters.of(owner));
        self.timeline.note(partition, Span { from_ms, state: tile.ownership.state, owner, letter });
    }

    /// When a partition's owner gave it up: a silent one with its last word.
    fn released_ms(&self, partition: i32, now_ms: i64) -> i64 {
        let owner = self.tiles.get(&partition).and_then(|tile| tile.ownership.owners.first());
        match owner.and_then(|owner| self.replicas.get(owner)) {
            Some(replica) if replica.status.owns(partition) => replica.heard_ms.min(now_ms),
            _ => now_ms,
        }
    }

    fn is_at_rest(&self) -> bool {
        let is_classic_busy =
            self.look.as_ref().is_some_and(|look| !look.is_telling() && look.described.state != "Empty");
        let nobody = self.replicas.values().all(|replica| replica.ended.is_some());
        let settled = |tile: &Tile| match tile.ownership.state {
            TileState::Owned => true,
            TileState::Unowned => nobody,
            TileState::Leaving | TileState::InFlight | TileState::Arriving | TileState::Disputed => false,
        };
        !is_classic_busy && self.tiles.values().all(settled)
    }

    /// Partitions on which sinks and broker have disagreed for a while.
    #[must_use]
    pub fn conflicts(&self, now_ms: i64) -> usize {
        let disputed = |tile: &&Tile| tile.ownership.state == TileState::Disputed;
        self.tiles.values().filter(disputed).filter(|tile| now_ms - tile.since_ms > CONFLICT_MS).count()
    }

    /// The generation that the sinks know.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.told().1
    }

    /// Who stored a record, if anybody says so yet: the sink, and the offset up to which it has.
    #[must_use]
    pub fn stored_by(&self, partition: i32) -> Option<(&str, i64)> {
        let owners = self.replicas.iter().filter_map(|(name, replica)| {
            let owned = replica.status.owned.iter().find(|owned| owned.partition == partition)?;
            Some((name.as_str(), owned.next_offset))
        });
        owners.max_by_key(|(_, next_offset)| *next_offset)
    }

    /// The letter of a sink.
    #[must_use]
    pub fn letter(&self, name: &str) -> Option<String> {
        self.letters.of(name)
    }
}
