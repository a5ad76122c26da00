//! Edits that are made while ingest is dead, for an hour and for a day, and what goes wrong while it catches up.
//!
//! What was made counts, sent or not: an ingest that steps over hours of the stream asks for nothing of them.

use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::random::Random;
use e2e::{checker, http, wait_until};

const LIMIT: Duration = Duration::from_secs(120);
const HOUR: u32 = 3_600;
const DAY: u32 = 86_400;
/// Events of one connection: within the second one ingest is far from the end.
const CUT: u64 = 9_000;

/// What happens while ingest catches up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// One cut.
    Cut,
    /// `kill -9` in the middle.
    Kill,
    /// The data centre was switched at the beginning of the absence, in its middle, or at its end; and a cut.
    SwitchBefore,
    SwitchInTheMiddle,
    SwitchAfter,
    /// A cut every few thousand events.
    Cuts,
    /// Somebody in between answers 404 three times.
    NotFound,
    /// The server is out of order and says until when.
    OutOfOrder,
    /// Another cluster serves, with numbers of its own.
    SecondCluster,
}

struct Story {
    pipeline: Pipeline,
    seed: u64,
}

impl Story {
    fn begin(seed: u64, density: &str) -> Self {
        let text = seed.to_string();
        let parts = Parts::with_simulator(&[
            "--rate",
            "200",
            "--seed",
            &text,
            "--density",
            density,
            "--canary-seconds",
            "600",
            "--frozen",
        ]);
        let mut pipeline = Pipeline::start(&parts);
        let mut story = Self {
            seed,
            pipeline: {
                pipeline.start_service("ingest");
                pipeline
            },
        };
        story.pipeline.make(120);
        story.expect_whole("the first edits are published");
        story.pipeline.service("ingest").kill();
        story
    }

    fn faults(&self, body: &str) {
        let body = format!("{{\"frozen\":true,{body}}}");
        assert_eq!(http::request(self.pipeline.simulator, "PUT", "/faults", &body).unwrap().0, 200, "{body}");
    }

    fn raw(&self) -> usize {
        let Some(produced) = self.pipeline.metric("ingest", "wiki_ingest_events_produced_total") else { return 0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let produced = produced as usize;
        produced
    }

    fn expect_whole(&mut self, what: &str) {
        let made = checker::made(self.pipeline.simulator, "edit");
        let mut verdict = checker::Raw::default();
        let pipeline = &mut self.pipeline;
        let deadline = std::time::Instant::now() + LIMIT;
        while std::time::Instant::now() < deadline {
            pipeline.expect_all_alive();
            verdict = checker::raw(&pipeline.target, &made);
            if verdict.missing == 0 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(300));
        }
        println!("seed {}, {what}: {verdict}", self.seed);
        assert!(verdict.is_exact(), "seed {}, {what}: {verdict}", self.seed);
    }

    /// Everything that was made goes into the table, each once.
    fn expect_table(&mut self) {
        self.pipeline.start_service("enricher");
        self.pipeline.start_service("sink-1");
        let edits = checker::made(self.pipeline.simulator, "edit").len();
        self.pipeline.expect_exact(edits, LIMIT);
    }

    /// The absence, and the way back.
    fn absent(&mut self, seconds: u32, trouble: Trouble) {
        let cut = format!("\"cut_after\":{CUT}");
        match trouble {
            Trouble::SwitchBefore => {
                self.faults("\"switched\":true");
                self.pipeline.make(seconds);
            }
            Trouble::SwitchInTheMiddle | Trouble::SwitchAfter => {
                let before = if trouble == Trouble::SwitchAfter { seconds - 60 } else { seconds / 2 };
                self.pipeline.make(before);
                self.faults("\"switched\":true");
                self.pipeline.make(seconds - before);
            }
            _ => self.pipeline.make(seconds),
        }
        let switched = matches!(trouble, Trouble::SwitchBefore | Trouble::SwitchInTheMiddle | Trouble::SwitchAfter);
        match trouble {
            Trouble::Kill => self.faults("\"lifetime_ms\":900000"),
            Trouble::Cuts => self.faults("\"cut_after\":3000"),
            Trouble::NotFound => self.faults("\"status\":404,\"status_times\":3"),
            Trouble::OutOfOrder => {
                self.faults("\"status\":503,\"status_times\":1,\"retry_after\":2,\"retry_after_date\":true");
            }
            Trouble::SecondCluster => self.faults(&format!("\"second_cluster\":true,{cut}")),
            _ if switched => self.faults(&format!("\"switched\":true,{cut}")),
            _ => self.faults(&cut),
        }
        let before = checker::raw_records(&self.pipeline.target);
        self.pipeline.start_service("ingest");
        if trouble == Trouble::Kill {
            let least = 2_000 + usize::try_from(Random::new(self.seed).below(6_000)).unwrap();
            wait_until("ingest catches up", LIMIT, || self.raw() > least);
            self.pipeline.kill_and_restart("ingest");
        } else {
            wait_until("ingest catches up", LIMIT, || checker::raw_records(&self.pipeline.target) > before);
        }
        self.expect_whole(&format!("{trouble:?} after {seconds} s"));
    }
}

fn tell(trouble: Trouble, seeds: std::ops::RangeInclusive<u64>) {
    for seed in seeds {
        let mut story = Story::begin(seed, "35");
        story.absent(HOUR, trouble);
        story.expect_table();
    }
    // A day as long as one, and thinner than the live stream's: what is made has to fit into memory.
    Story::begin(99, "1.2").absent(DAY, trouble);
}

macro_rules! stories {
    ($($name:ident: $trouble:ident,)*) => {
        $(#[test] fn $name() { tell(Trouble::$trouble, 1..=seeds()); })*
    };
}

/// Seeds of each story; `WIKI_SEEDS` says how many, for a long run.
fn seeds() -> u64 {
    std::env::var("WIKI_SEEDS").ok().map_or(1, |seeds| seeds.parse().unwrap())
}

stories! {
    a_cut_while_catching_up_loses_nothing: Cut,
    a_kill_while_catching_up_loses_nothing: Kill,
    a_switch_before_the_absence_loses_nothing: SwitchBefore,
    a_switch_in_the_middle_of_the_absence_loses_nothing: SwitchInTheMiddle,
    a_switch_after_the_absence_loses_nothing: SwitchAfter,
    cuts_every_few_thousand_events_lose_nothing: Cuts,
    three_404s_of_a_proxy_lose_nothing: NotFound,
    a_503_with_a_date_loses_nothing: OutOfOrder,
    a_second_cluster_loses_nothing: SecondCluster,
}

#[test]
fn a_server_that_cuts_within_the_margin_every_time_is_followed_with_a_warning() {
    let mut story = Story::begin(5, "35");
    story.pipeline.make(300);
    story.faults("\"cut_after\":300");
    story.pipeline.start_service("ingest");
    story.expect_whole("cut after 300 events every time");
    let logs = story.pipeline.logs("ingest");
    let warned = |line: &&serde_json::Value| {
        line["message"].as_str().is_some_and(|message| message.contains("before it showed anything new"))
    };
    let Some(line) = logs.iter().find(warned) else { panic!("no warning") };
    assert_eq!(line["level"], "WARN");
}

#[test]
fn times_in_the_future_and_negative_ones_lose_nothing_and_move_no_position() {
    let parts = Parts::with_simulator(&["--rate", "200", "--seed", "8", "--frozen", "--odd-every", "400"]);
    let mut pipeline = Pipeline::start(&parts);
    pipeline.start_service("ingest");
    let mut story = Story { pipeline, seed: 8 };
    for _ in 0..3 {
        story.pipeline.make(300);
        story.faults("\"cut_after\":4000");
        story.expect_whole("odd times");
        let odd = || story.pipeline.metric("ingest", "wiki_ingest_odd_times_total").unwrap_or_default();
        wait_until("they are counted", LIMIT, || odd() > 0.0);
        story.pipeline.kill_and_restart("ingest");
    }
    story.expect_whole("odd times, after the last kill");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let position = || story.pipeline.metric("ingest", "wiki_ingest_position_timestamp_seconds").unwrap_or_default();
    wait_until("the positions are shown", LIMIT, || position() > 0.0);
    assert!(position() < 2.0 * (now + 300.0), "both sources' positions lie before now + 5 minutes");
}

#[test]
fn log_times_that_step_back_beyond_the_margin_lose_nothing() {
    let parts = Parts::with_simulator(&["--rate", "200", "--seed", "9", "--frozen", "--disorder-ms", "90000"]);
    let mut pipeline = Pipeline::start(&parts);
    pipeline.start_service("ingest");
    let mut story = Story { pipeline, seed: 9 };
    for _ in 0..4 {
        story.pipeline.make(600);
        story.faults("\"cut_after\":5000");
        story.expect_whole("times step back");
        story.pipeline.kill_and_restart("ingest");
    }
    story.expect_whole("times step back, after the last kill");
}
