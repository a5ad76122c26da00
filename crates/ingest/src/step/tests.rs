//! The judge in a world that does to it whatever a stream can do.

use super::world::{Client, Disturbances, Server, Verdict, World, judge};

/// Cases of each kind of disturbance.
const CASES: u64 = 2_500;

/// Absences, cuts, kills and restarts, then quiet: what is committed must be what was made.
fn run(seed: u64, may: Disturbances) -> Verdict {
    let mut world = World::new(seed, may);
    let start = world.now - 10;
    let mut client = Client::new(start);
    let first = 5 + world.random.below(26);
    world.make(first);
    for _ in 0..3 + world.random.below(5) {
        for _ in 0..world.random.pick(&[1, 1, 2, 3]) {
            let cut = if may.cut { world.random.pick(&[3, 8, 20, usize::MAX]) } else { usize::MAX };
            let kill =
                if world.random.chance(may.kill) { 1 + usize::try_from(world.random.below(40)).unwrap() } else { 0 };
            let every = world.random.pick(&[1, 5, 20]);
            if !client.connection(&mut world, cut, kill, every) {
                client.recover(world.now);
                break;
            }
            let more = world.random.below(11);
            world.make(more);
        }
        let absence = world.random.pick(&[2, 10, 10, 60, 300]);
        world.make(absence);
        world.disturb();
        if world.random.chance(may.restart) {
            client.recover(world.now);
        }
    }
    world.calm();
    (0..4).for_each(|_| world.make_both());
    for _ in 0..12 {
        client.connection(&mut world, usize::MAX, 0, 5);
    }
    judge(&world, &client, start + 10)
}

fn holds(may: Disturbances) {
    let mut wrong = Vec::new();
    for seed in 0..CASES {
        let verdict = run(seed, may);
        if verdict != Verdict::default() {
            wrong.push((seed, verdict));
        }
    }
    assert!(wrong.is_empty(), "{} of {CASES} runs are wrong; the first: {:?}", wrong.len(), wrong.first());
}

/// Always there.
const BASE: Disturbances = Disturbances {
    cut: true,
    kill: 500,
    restart: 200,
    switch: 300,
    back: 0,
    ahead: 0,
    future: 0,
    retention: 0,
    server: Server { cluster: 0, lag: false, latest: 0, not_served: 0 },
};

#[test]
fn absences_cuts_kills_and_switches() {
    holds(BASE);
}

#[test]
fn the_stream_forgets() {
    holds(Disturbances { retention: 250, ..BASE });
}

#[test]
fn times_step_back_beyond_the_margin() {
    holds(Disturbances { back: 20, ..BASE });
}

#[test]
fn times_are_ahead() {
    holds(Disturbances { ahead: 20, ..BASE });
}

#[test]
fn times_are_in_the_future_or_negative() {
    holds(Disturbances { future: 10, ..BASE });
}

#[test]
fn all_of_these() {
    holds(Disturbances { back: 10, ahead: 10, future: 5, retention: 200, ..BASE });
}

#[test]
fn a_second_cluster_with_other_offsets_that_lags() {
    holds(Disturbances { server: Server { cluster: 500, lag: true, ..BASE.server }, ..BASE });
}

#[test]
fn a_second_cluster_and_times_back_and_a_stream_that_forgets() {
    holds(Disturbances { back: 10, retention: 200, server: Server { cluster: 500, lag: true, ..BASE.server }, ..BASE });
}

#[test]
fn positions_are_refused() {
    holds(Disturbances { retention: 150, server: Server { latest: 300, ..BASE.server }, ..BASE });
}

#[test]
fn a_topic_is_not_served_for_a_while() {
    holds(Disturbances { server: Server { not_served: 300, ..BASE.server }, ..BASE });
}
