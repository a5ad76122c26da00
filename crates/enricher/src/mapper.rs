//! A thread that maps the records of several partitions. It never waits for Kafka: what blocks is the committers'.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use kafka::{Error, FencedWriter, TopicPartition};
use service::{Failure, Heartbeat};

use crate::lane::{Lane, Turn};
use crate::progress::Progress;

/// Longest sleep: letters, records and due commits wake it earlier.
const TURN: Duration = Duration::from_millis(500);

/// What a mapper is told.
pub enum Letter {
    /// A partition begins; its committer recovers.
    Begin(Box<Lane>),
    /// A partition is to be given back: commit what is open, then tell.
    End(TopicPartition, Sender<TopicPartition>),
    /// A partition is gone, or is taking too long to leave: forget it.
    Forget(TopicPartition),
    /// A committer answers.
    Reply {
        /// Its partition.
        at: TopicPartition,
        /// Its stay: an answer to an earlier one counts for nothing.
        stay: u64,
        /// The answer.
        reply: Reply,
    },
}

/// What a committer answers.
pub enum Reply {
    /// The predecessor is fenced, and this is where it ended.
    Recovered(FencedWriter, Progress),
    /// What was open is committed.
    Committed(FencedWriter),
    /// Nobody knows what became of it.
    Doubt(Error),
    /// A person must act.
    Stop(String),
}

/// The partitions of one mapper.
pub struct Mapper {
    letters: Receiver<Letter>,
    lanes: BTreeMap<TopicPartition, Lane>,
    /// Those that are told to end, and who waits for them.
    leaving: BTreeMap<TopicPartition, Sender<TopicPartition>>,
}

impl Mapper {
    /// A mapper without partitions.
    #[must_use]
    pub const fn new(letters: Receiver<Letter>) -> Self {
        Self { letters, lanes: BTreeMap::new(), leaving: BTreeMap::new() }
    }

    /// Maps until nobody can write to it any more.
    ///
    /// # Errors
    /// Where a person must act.
    pub fn run(mut self, heartbeat: &Heartbeat) -> Result<(), Failure> {
        loop {
            heartbeat.beat();
            if !self.read_letters()? {
                return Ok(());
            }
            let mut worked = false;
            for (_, lane) in self.lanes.iter_mut().filter(|(at, _)| !self.leaving.contains_key(at)) {
                worked |= lane.turn().map_err(stop)? == Turn::Worked;
            }
            if !worked {
                std::thread::park_timeout(self.patience(Instant::now()));
            }
        }
    }

    fn patience(&self, now: Instant) -> Duration {
        let due = self.lanes.values().filter_map(Lane::due).min();
        due.map_or(TURN, |due| due.saturating_duration_since(now).min(TURN))
    }

    /// False when no letter can come any more.
    fn read_letters(&mut self) -> Result<bool, Failure> {
        loop {
            match self.letters.try_recv() {
                Ok(letter) => self.read(letter)?,
                Err(TryRecvError::Empty) => return Ok(true),
                // The group's loop ended, and so did every committer.
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    fn read(&mut self, letter: Letter) -> Result<(), Failure> {
        match letter {
            Letter::Begin(lane) => drop(self.lanes.insert(lane.at.clone(), *lane)),
            Letter::End(at, told) => self.end(at, told),
            Letter::Forget(at) => {
                self.lanes.remove(&at);
                self.leaving.remove(&at);
            }
            Letter::Reply { at, stay, reply } => self.answered(&at, stay, reply)?,
        }
        Ok(())
    }

    fn end(&mut self, at: TopicPartition, told: Sender<TopicPartition>) {
        let Some(lane) = self.lanes.get_mut(&at) else {
            drop(told.send(at));
            return;
        };
        lane.leave();
        self.leaving.insert(at.clone(), told);
        self.let_go_if_settled(&at);
    }

    fn let_go_if_settled(&mut self, at: &TopicPartition) {
        if !self.lanes.get(at).is_some_and(Lane::is_settled) {
            return;
        }
        if let Some(told) = self.leaving.remove(at)
            && let Some(mut lane) = self.lanes.remove(at)
        {
            lane.left();
            drop(told.send(at.clone()));
        }
    }

    fn answered(&mut self, at: &TopicPartition, stay: u64, reply: Reply) -> Result<(), Failure> {
        // A lane that is gone needs no writer: the next owner fences it, and what it holds is dropped here.
        let Some(lane) = self.lanes.get_mut(at).filter(|lane| lane.stay == stay) else {
            if let Reply::Doubt(doubt) = reply {
                let (partition, error) = (at.partition, doubt.sentence());
                tracing::warn!(
                    partition,
                    error,
                    "a commit was refused after the partition was lost: its next owner decides"
                );
            }
            return Ok(());
        };
        match reply {
            Reply::Recovered(writer, progress) => lane.recovered(writer, progress),
            Reply::Committed(writer) => lane.committed(writer),
            Reply::Doubt(doubt) => lane.doubted(&doubt),
            Reply::Stop(sentence) => return Err(Failure::Runtime(sentence)),
        }
        self.let_go_if_settled(at);
        Ok(())
    }
}

fn stop(error: Error) -> Failure {
    Failure::Runtime(error.sentence())
}
