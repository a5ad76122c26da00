//! The board against any order of words and looks, and against rebalances as they happen.
#![expect(clippy::unwrap_used, reason = "tests say what broke by panicking")]

use std::collections::BTreeSet;

use console::board::rebalances::Cause;
use console::board::tile::TileState;
use console::board::view::{BoardView, PartitionView, ReplicaState};
use console::board::{Board, Outcome};
use console::picture::{Picture, Progress};
use kafka::{GroupDescription, MemberDescription, TopicPartition};
use proptest::prelude::*;
use schema::control::{Moment, OwnedPartition, SinkStatus};

const TOPIC: &str = "wikipedia-events";
const PARTITIONS: i32 = 6;
const SINKS: usize = 4;

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC.to_owned(), partition }
}

fn word(replica: &str, run: u64, number: u64, moment: Moment, owned: &[i32]) -> SinkStatus {
    SinkStatus {
        replica: replica.to_owned(),
        run: format!("{replica}-{run}"),
        number,
        started_at_ms: i64::try_from(run).unwrap(),
        moment,
        member: format!("{replica}-member-{run}"),
        generation: 1,
        protocol: "cooperative".to_owned(),
        owned: owned.iter().map(|partition| OwnedPartition { partition: *partition, next_offset: 1, lag: 0 }).collect(),
        moving: owned.to_vec(),
        stored: number,
        buffered: 0,
        buffer_limit: 2_000,
        trouble: String::new(),
        is_slowed: false,
    }
}

/// Who, in which run, owns what, and is to own what.
type Member<'a> = (&'a str, u64, &'a [i32], Option<&'a [i32]>);

fn picture(state: &str, protocol: &str, members: &[Member<'_>]) -> Picture {
    let set = |numbers: &[i32]| numbers.iter().copied().map(at).collect::<BTreeSet<_>>();
    let members = members.iter().map(|(name, run, owned, target)| MemberDescription {
        id: format!("{name}-member-{run}"),
        client_id: (*name).to_owned(),
        host: "/127.0.0.1".to_owned(),
        owned: set(owned),
        target: target.map(set),
    });
    Picture {
        described: GroupDescription {
            group: "wiki-sink".to_owned(),
            state: state.to_owned(),
            protocol: protocol.to_owned(),
            members: members.collect(),
        },
        partitions: (0..PARTITIONS).map(|partition| (at(partition), Progress::default())).collect(),
        ..Picture::default()
    }
}

fn stable(members: &[Member<'_>]) -> Picture {
    picture("Stable", "Classic", members)
}

fn tile(view: &BoardView, partition: i32) -> &PartitionView {
    view.partitions.iter().find(|tile| tile.partition == partition).unwrap()
}

fn show(view: &BoardView, partition: i32) -> (TileState, Vec<&str>, Option<&str>) {
    let tile = tile(view, partition);
    (tile.state, tile.owners.iter().map(String::as_str).collect(), tile.target.as_deref())
}

/// Something that reaches the board, in whatever order.
#[derive(Clone, Debug)]
enum Event {
    Word(SinkStatus),
    Look(Picture),
    Time,
}

fn partitions() -> impl Strategy<Value = Vec<i32>> {
    proptest::collection::btree_set(0..PARTITIONS, 0..4).prop_map(|set| set.into_iter().collect())
}

fn moments() -> impl Strategy<Value = Moment> {
    prop_oneof![
        6 => Just(Moment::Heartbeat),
        2 => Just(Moment::Assigned),
        2 => Just(Moment::Revoking),
        2 => Just(Moment::Revoked),
        1 => Just(Moment::Lost),
        1 => Just(Moment::Leaving),
    ]
}

fn words() -> impl Strategy<Value = Event> {
    (0..SINKS, 0_u64..3, 0_u64..20, moments(), partitions()).prop_map(|(sink, run, number, moment, owned)| {
        Event::Word(word(&format!("sink-{sink}"), run, number, moment, &owned))
    })
}

fn looks() -> impl Strategy<Value = Event> {
    let states = prop_oneof![
        4 => Just(("Stable", "Classic")),
        2 => Just(("PreparingRebalance", "Classic")),
        2 => Just(("Reconciling", "Consumer")),
    ];
    let member = (0..SINKS, 0_u64..3, partitions(), proptest::option::of(partitions()));
    (states, proptest::collection::vec(member, 0..4)).prop_map(|((state, protocol), members)| {
        let names: Vec<String> = members.iter().map(|(sink, ..)| format!("sink-{sink}")).collect();
        let members: Vec<Member<'_>> = names
            .iter()
            .zip(&members)
            .map(|(name, (_, run, owned, target))| (name.as_str(), *run, owned.as_slice(), target.as_deref()))
            .collect();
        Event::Look(picture(state, protocol, &members))
    })
}

fn events() -> impl Strategy<Value = Vec<(Event, i64)>> {
    let event = prop_oneof![5 => words(), 3 => looks(), 1 => Just(Event::Time)];
    proptest::collection::vec((event, 0_i64..2_500), 0..60)
}

fn assert_no_two_owners_without_a_dispute(view: &BoardView) {
    for tile in &view.partitions {
        let is_disputed = tile.state == TileState::Disputed;
        assert_eq!(tile.owners.len() > 1, is_disputed, "{tile:?}");
        let has_owner = matches!(tile.state, TileState::Owned | TileState::Leaving | TileState::Disputed);
        assert_eq!(!tile.owners.is_empty(), has_owner, "{tile:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn two_owners_are_never_shown_without_a_dispute_and_the_brokers_view_wins(
        events in events(),
        truth in proptest::collection::vec(proptest::option::of(0..SINKS), 6),
    ) {
        let mut board = Board::new(TOPIC.to_owned());
        let mut now_ms = 1_000_000;
        for (event, later) in events {
            now_ms += later;
            match event {
                Event::Word(status) => board.heard(status, now_ms),
                Event::Look(picture) => board.looked(picture, now_ms),
                Event::Time => board.passed(now_ms),
            };
            assert_no_two_owners_without_a_dispute(&board.view(now_ms));
        }
        // The storm is over: every sink speaks once more, and the broker is asked once more.
        let names: Vec<String> = (0..SINKS).map(|sink| format!("sink-{sink}")).collect();
        let owned: Vec<Vec<i32>> = (0..SINKS)
            .map(|sink| (0..).zip(&truth).filter(|(_, owner)| **owner == Some(sink)).map(|(at, _)| at).collect())
            .collect();
        for (name, owned) in names.iter().zip(&owned) {
            board.heard(word(name, 9, 100, Moment::Heartbeat, owned), now_ms);
        }
        let members: Vec<Member<'_>> =
            names.iter().zip(&owned).map(|(name, owned)| (name.as_str(), 9, owned.as_slice(), None)).collect();
        board.looked(stable(&members), now_ms + 1);
        let view = board.view(now_ms + 1);
        for (partition, owner) in (0..).zip(&truth) {
            let expected = match owner {
                Some(sink) => (TileState::Owned, vec![names[*sink].as_str()], None),
                None => (TileState::InFlight, vec![], None),
            };
            prop_assert_eq!(show(&view, partition), expected);
        }
    }
}

/// A board with two sinks at rest, three partitions each.
fn two_sinks() -> Board {
    let mut board = Board::new(TOPIC.to_owned());
    board.heard(word("sink-1", 1, 0, Moment::Assigned, &[0, 1, 2]), 1_000);
    board.heard(word("sink-2", 1, 0, Moment::Assigned, &[3, 4, 5]), 1_000);
    board.looked(stable(&[("sink-1", 1, &[0, 1, 2], None), ("sink-2", 1, &[3, 4, 5], None)]), 1_100);
    let outcome = board.passed(3_000);
    assert!(outcome.over.is_some(), "the group has formed");
    board
}

#[test]
fn while_nothing_is_heard_the_board_stands_and_nobody_is_taken_for_lost() {
    let mut board = two_sinks();
    board.passed(30_000);
    assert!(board.view(30_000).partitions.iter().all(|tile| tile.state == TileState::Owned), "the broker is down");
    // It is back, and its first answer comes before any sink's word.
    let both: &[Member<'_>] = &[("sink-1", 1, &[0, 1, 2], None), ("sink-2", 1, &[3, 4, 5], None)];
    board.looked(stable(both), 31_000);
    speak(&mut board, &[("sink-1", &[0, 1, 2])], 9, 31_200);
    let view = board.view(31_300);
    assert!(view.partitions.iter().all(|tile| tile.state == TileState::Owned), "{view:#?}");
    assert_eq!(view.replicas[1].state, ReplicaState::Stable);
}

fn speak(board: &mut Board, sinks: &[(&str, &[i32])], number: u64, at_ms: i64) -> Outcome {
    let mut last = Outcome::default();
    for (name, owned) in sinks {
        last = board.heard(word(name, 1, number, Moment::Heartbeat, owned), at_ms);
    }
    last
}

#[test]
fn a_sink_that_joins_takes_partitions_over_and_the_log_says_what_stood_still() {
    let mut board = two_sinks();
    speak(&mut board, &[("sink-1", &[0, 1, 2]), ("sink-2", &[3, 4, 5])], 1, 9_900);
    board.heard(word("sink-3", 1, 0, Moment::Heartbeat, &[]), 10_000);
    assert_eq!(board.view(10_000).replicas[2].state, ReplicaState::Joining);
    board.heard(SinkStatus { moving: vec![2], ..word("sink-1", 1, 2, Moment::Revoking, &[0, 1, 2]) }, 10_100);
    assert_eq!(show(&board.view(10_100), 2), (TileState::Leaving, vec!["sink-1"], None));
    board.heard(word("sink-1", 1, 3, Moment::Revoked, &[0, 1]), 10_150);
    let view = board.view(10_200);
    assert_eq!(show(&view, 2), (TileState::InFlight, vec![], None));
    assert_eq!(tile(&view, 2).still_since_ms, Some(10_150));
    let moved: &[Member<'_>] =
        &[("sink-1", 1, &[0, 1], None), ("sink-2", 1, &[3, 4, 5], None), ("sink-3", 1, &[2], None)];
    board.looked(stable(moved), 10_300);
    assert_eq!(show(&board.view(10_300), 2), (TileState::Arriving, vec![], Some("sink-3")));
    let taken = board.heard(word("sink-3", 1, 1, Moment::Assigned, &[2]), 10_550);
    assert_eq!(taken.pauses[0].0.milliseconds, 400);
    speak(&mut board, &[("sink-1", &[0, 1]), ("sink-2", &[3, 4, 5]), ("sink-3", &[2])], 5, 11_000);
    let over = board.passed(12_100).over.unwrap_or_else(|| panic!("all is at rest: {:#?}", board.view(12_100)));
    assert_eq!(over.causes, BTreeSet::from([Cause::Joined("sink-3".to_owned())]));
    assert_eq!((over.moved, over.kept.len(), over.pauses[0].milliseconds), (vec![2], 5, 400));
    assert_eq!((over.began_ms, over.ended_ms), (10_000, 10_550));
}

#[test]
fn a_killed_sink_is_silent_then_lost_and_its_partitions_stand_still_since_its_last_word() {
    let mut board = two_sinks();
    let both: &[Member<'_>] = &[("sink-1", 1, &[0, 1, 2], None), ("sink-2", 1, &[3, 4, 5], None)];
    speak(&mut board, &[("sink-1", &[0, 1, 2]), ("sink-2", &[3, 4, 5])], 1, 20_000);
    for second in 21_i64..26 {
        speak(&mut board, &[("sink-1", &[0, 1, 2])], u64::try_from(second).unwrap(), second * 1_000);
        board.looked(stable(both), second * 1_000 + 10);
    }
    let view = board.view(25_500);
    assert_eq!(view.replicas[1].state, ReplicaState::Silent);
    assert_eq!(show(&view, 4), (TileState::InFlight, vec![], None));
    assert_eq!(tile(&view, 4).still_since_ms, Some(20_000));
    board.looked(stable(&[("sink-1", 1, &[0, 1, 2, 3, 4, 5], None)]), 26_000);
    assert_eq!(board.view(26_000).replicas[1].state, ReplicaState::Lost);
    board.heard(word("sink-1", 1, 50, Moment::Assigned, &[0, 1, 2, 3, 4, 5]), 26_200);
    let over = board.passed(27_800).over.unwrap();
    assert_eq!(over.causes, BTreeSet::from([Cause::Lost("sink-2".to_owned())]));
    assert_eq!((over.moved, over.began_ms), (vec![3, 4, 5], 20_000));
    assert!(over.pauses.iter().all(|pause| pause.milliseconds == 6_200), "{:?}", over.pauses);
}

#[test]
fn a_sink_that_goes_on_after_the_group_gave_its_partition_away_is_disputed() {
    let mut board = two_sinks();
    speak(&mut board, &[("sink-1", &[0, 1, 2, 3]), ("sink-2", &[3, 4, 5])], 1, 20_000);
    assert_eq!(show(&board.view(20_000), 3).0, TileState::Disputed);
    speak(&mut board, &[("sink-1", &[0, 1, 2, 3]), ("sink-2", &[4, 5])], 2, 20_500);
    board.looked(stable(&[("sink-1", 1, &[0, 1, 2], None), ("sink-2", 1, &[3, 4, 5], None)]), 20_550);
    let view = board.view(20_550);
    assert_eq!(show(&view, 3), (TileState::Disputed, vec!["sink-1", "sink-2"], None), "the broker says otherwise");
    assert_eq!((board.conflicts(20_600), board.conflicts(23_000)), (0, 1));
}

#[test]
fn a_sink_that_ends_in_order_left_and_one_that_comes_back_by_its_name_has_its_letter() {
    let mut board = two_sinks();
    speak(&mut board, &[("sink-1", &[0, 1, 2])], 1, 20_000);
    board.heard(word("sink-2", 1, 7, Moment::Leaving, &[]), 20_100);
    board.looked(stable(&[("sink-1", 1, &[0, 1, 2, 3, 4, 5], None)]), 20_300);
    board.heard(word("sink-1", 1, 8, Moment::Assigned, &[0, 1, 2, 3, 4, 5]), 20_400);
    let over = board.passed(22_000).over.unwrap();
    assert_eq!(over.causes, BTreeSet::from([Cause::Left("sink-2".to_owned())]));
    assert_eq!(board.view(22_000).replicas[1].state, ReplicaState::Left);
    board.heard(word("sink-2", 2, 0, Moment::Heartbeat, &[]), 30_000);
    let view = board.view(30_000);
    assert_eq!((view.replicas[1].letter.as_str(), view.replicas[1].state), ("B", ReplicaState::Joining));
    // What the earlier run still says comes too late.
    speak(&mut board, &[("sink-1", &[0, 1, 2, 3, 4, 5])], 60, 30_000);
    board.heard(word("sink-2", 1, 99, Moment::Heartbeat, &[0]), 30_100);
    assert_eq!(show(&board.view(30_100), 0).1, ["sink-1"]);
}

#[test]
fn a_member_that_says_nothing_owns_what_the_broker_gave_it() {
    let mut board = Board::new(TOPIC.to_owned());
    board.looked(stable(&[("stranger", 1, &[0, 1, 2, 3, 4, 5], None)]), 1_000);
    let view = board.view(1_000);
    assert_eq!(show(&view, 5), (TileState::Owned, vec!["stranger"], None));
    assert_eq!((view.replicas[0].state, view.replicas[0].letter.as_str()), (ReplicaState::Unheard, "A"));
}

#[test]
fn targets_of_kip_848_show_where_a_partition_goes() {
    let mut board = two_sinks();
    let picture = picture(
        "Reconciling",
        "Consumer",
        &[("sink-1", 1, &[0, 1, 2], Some(&[0, 1])), ("sink-2", 1, &[3, 4, 5], Some(&[2, 3, 4, 5]))],
    );
    speak(&mut board, &[("sink-1", &[0, 1, 2]), ("sink-2", &[3, 4, 5])], 1, 20_000);
    board.looked(picture, 20_001);
    assert_eq!(show(&board.view(20_001), 2), (TileState::Leaving, vec!["sink-1"], Some("sink-2")));
}

#[test]
fn a_standby_is_one_that_has_nothing_to_do_while_all_is_at_rest() {
    let mut board = two_sinks();
    board.heard(word("sink-3", 1, 0, Moment::Heartbeat, &[]), 20_000);
    let members: &[Member<'_>] =
        &[("sink-1", 1, &[0, 1, 2], None), ("sink-2", 1, &[3, 4, 5], None), ("sink-3", 1, &[], None)];
    speak(&mut board, &[("sink-1", &[0, 1, 2]), ("sink-2", &[3, 4, 5])], 1, 20_000);
    board.looked(stable(members), 20_100);
    assert_eq!(board.view(20_100).replicas[2].state, ReplicaState::Joining, "the group may still move something");
    board.passed(22_000);
    assert_eq!(board.view(22_000).replicas[2].state, ReplicaState::Standby);
}

#[test]
fn a_sink_that_was_only_stopped_for_a_while_comes_back_and_one_whose_partition_is_taken_was_lost() {
    let mut board = two_sinks();
    for second in 20_i64..24 {
        speak(&mut board, &[("sink-1", &[0, 1, 2])], u64::try_from(second).unwrap(), second * 1_000);
    }
    // No look says so: the words alone do.
    let taken = board.heard(word("sink-1", 1, 50, Moment::Assigned, &[0, 1, 2, 3, 4, 5]), 24_500);
    assert_eq!(taken.causes, [Cause::Lost("sink-2".to_owned())]);
    assert_eq!(board.view(24_500).replicas[1].state, ReplicaState::Lost);
    let back = board.heard(word("sink-2", 1, 9, Moment::Lost, &[]), 25_500);
    assert_eq!(back.causes, [Cause::Joined("sink-2".to_owned())]);
    assert_eq!(board.view(25_500).replicas[1].state, ReplicaState::Joining);
}
