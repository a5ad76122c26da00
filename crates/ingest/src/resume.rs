//! How the next connection asks, and what a refusal or an end without progress changes. Pure.

use schema::sse_id::{self, SourcePosition};

use crate::overlap::{Asked, Attempts, Overlap, Phase};
use crate::position::{AHEAD_MS, IngestState, ResumeAt, SourceState};
use crate::source::refusal::Refusal;

/// How the position is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All sources in one header.
    #[default]
    Header,
    /// One source alone, to find the entry that the server refuses.
    Single(usize),
    /// By `since`.
    Since,
    /// At the present.
    Latest,
}

/// How the next connection asks. Counters only: a restart begins with the defaults.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// How the position is sent.
    pub mode: Mode,
    /// The last connection ended before it showed anything new: ask by offset while that works.
    pub by_offset: bool,
    /// Connections in a row that ended so.
    pub stuck: u32,
    /// Sources that the server refuses.
    excluded: Vec<usize>,
}

impl Resume {
    /// Where the next connection begins, and what each source has to prove.
    pub fn plan(
        &mut self,
        state: &IngestState,
        attempts: &mut [Attempts],
        margin_ms: i64,
        clock_ms: i64,
    ) -> (ResumeAt, Vec<Overlap>) {
        let ways: Vec<Overlap> = state
            .sources
            .iter()
            .zip(attempts.iter_mut())
            .map(|(source, attempts)| self.way(source, attempts, margin_ms, clock_ms))
            .collect();
        if self.mode == Mode::Since {
            let known_whole = attempts.iter().all(|attempts| attempts.known_from_ms.is_none());
            match ways.iter().filter_map(|way| resume_time(way.asked)).min() {
                Some(since) if known_whole => {
                    let asked = |way: &Overlap| Overlap::new(Asked::Time(since), way.phase);
                    return (ResumeAt::Since(since), ways.iter().map(asked).collect());
                }
                _ => self.mode = Mode::Latest,
            }
        }
        if self.mode == Mode::Latest {
            return (ResumeAt::Latest, ways.iter().map(|_| Overlap::new(Asked::Latest, Phase::After)).collect());
        }
        let asked = |index: usize| match self.mode {
            Mode::Single(one) => one == index,
            _ => !self.excluded.contains(&index),
        };
        let ways: Vec<Overlap> = ways
            .into_iter()
            .enumerate()
            .map(|(index, way)| if asked(index) { way } else { Overlap::new(Asked::Nothing, way.phase) })
            .collect();
        let positions = state.sources.iter().zip(&ways).filter_map(|(source, way)| position(source, way.asked));
        (ResumeAt::Positions(positions.collect()), ways)
    }

    fn way(&self, source: &SourceState, attempts: &mut Attempts, margin_ms: i64, clock_ms: i64) -> Overlap {
        let was_other_cluster = std::mem::take(&mut attempts.other_cluster);
        let (t, last) = match &source.refused {
            Some((t, last)) => (Some(*t), Some(last)),
            None => (source.t, source.last.as_ref()),
        };
        let Some(t) = t else { return Overlap::new(Asked::Time(source.start.min(clock_ms)), Phase::After) };
        let has_offset = last.is_some_and(|last| last.offset.is_some());
        let wants_offset = (self.by_offset && !was_other_cluster) || attempts.tried >= 2;
        if has_offset && wants_offset && !attempts.offset_failed {
            return Overlap::new(Asked::Offset, Phase::Before);
        }
        let margins = 1 + i64::from(attempts.tried.min(1));
        // A time that no event could be trusted with: the clock went back.
        let t = if t > clock_ms.saturating_add(AHEAD_MS) { clock_ms } else { t };
        Overlap::new(Asked::Time(t - margins * margin_ms), Phase::Before)
    }

    /// The server refused the position: the next way to ask. False where there is none left but to wait.
    pub fn refused(&mut self, refusal: &Refusal, state: &IngestState) -> bool {
        let count = state.sources.len();
        match (self.mode, refusal) {
            (Mode::Header, Refusal::TopicNotAvailable(available)) => {
                let gone = |index: &usize| {
                    let source = state.sources.get(*index);
                    source.is_some_and(|source| !available.contains(&source.topic)) && !self.excluded.contains(index)
                };
                let found: Vec<usize> = (0..count).filter(gone).collect();
                let is_new = !found.is_empty();
                self.excluded.extend(found);
                if !is_new || self.excluded.len() == count {
                    self.mode = Mode::Since;
                }
            }
            (Mode::Header, Refusal::InvalidAssignment) => {
                self.mode = if count > 1 && self.excluded.is_empty() { Mode::Single(0) } else { Mode::Since };
            }
            (Mode::Single(index), _) => {
                self.excluded.push(index);
                self.probed(count);
            }
            (Mode::Since, _) => self.mode = Mode::Latest,
            (Mode::Latest, _) => {
                self.answered();
                return false;
            }
        }
        true
    }

    /// One source alone was asked for and answered, or refused: the next one.
    pub fn probed(&mut self, count: usize) {
        if let Mode::Single(index) = self.mode {
            self.mode = match index + 1 {
                next if next < count => Mode::Single(next),
                _ if self.excluded.len() == count => Mode::Since,
                _ => Mode::Header,
            };
        }
    }

    /// The server took the position and sent events: the next connection asks for everything again.
    pub fn answered(&mut self) {
        self.mode = Mode::Header;
        self.excluded.clear();
    }

    /// Sources that are left out.
    #[must_use]
    pub fn excluded(&self) -> &[usize] {
        &self.excluded
    }
}

const fn resume_time(asked: Asked) -> Option<i64> {
    match asked {
        Asked::Time(ms) => Some(ms),
        Asked::Offset | Asked::Latest | Asked::Nothing => None,
    }
}

fn position(source: &SourceState, asked: Asked) -> Option<SourcePosition> {
    match asked {
        Asked::Time(ms) => Some(sse_id::by_time(&source.topic, source.partition, ms)),
        Asked::Offset => {
            let last = source.refused.as_ref().map(|(_, last)| last).or(source.last.as_ref());
            let offset = last.and_then(|last| last.offset)?;
            Some(sse_id::by_offset(&source.topic, source.partition, offset))
        }
        Asked::Latest | Asked::Nothing => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Last;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    const NOW: i64 = 1_000_000_000;

    fn state() -> IngestState {
        let mut state = IngestState::first(0, &BTreeMap::new());
        for (topic, t) in [("eqiad.s", 500_000), ("codfw.s", 900_000)] {
            let index = state.source_or_new(topic, 0, 0);
            state.sources[index].t = Some(t);
            state.sources[index].last = Some(Last { id: Uuid::from_u128(1), offset: Some(7), ms: t });
        }
        state
    }

    fn header(resume: &mut Resume, attempts: &mut [Attempts], state: &IngestState, clock: i64) -> Option<String> {
        resume.plan(state, attempts, 30_000, clock).0.header()
    }

    fn two() -> Vec<Attempts> {
        vec![Attempts::default(), Attempts::default()]
    }

    #[test]
    fn each_source_is_asked_for_at_its_own_time() {
        let sent = header(&mut Resume::default(), &mut two(), &state(), NOW).unwrap();
        assert!(sent.contains(r#""eqiad.s","partition":0,"timestamp":470000"#), "{sent}");
        assert!(sent.contains(r#""codfw.s","partition":0,"timestamp":870000"#), "{sent}");
    }

    #[test]
    fn a_position_far_ahead_of_the_clock_is_sent_as_the_clock_less_the_margin() {
        let sent = header(&mut Resume::default(), &mut two(), &state(), 599_000).unwrap();
        assert!(sent.contains(r#""codfw.s","partition":0,"timestamp":569000"#), "{sent}");
    }

    #[test]
    fn what_was_not_shown_is_asked_for_further_back_and_then_by_offset() {
        let mut attempts = two();
        attempts[0].tried = 1;
        let sent = header(&mut Resume::default(), &mut attempts, &state(), NOW).unwrap();
        assert!(sent.contains(r#""eqiad.s","partition":0,"timestamp":440000"#), "{sent}");
        attempts[0].tried = 2;
        let sent = header(&mut Resume::default(), &mut attempts, &state(), NOW).unwrap();
        assert!(sent.contains(r#""eqiad.s","partition":0,"offset":7"#), "{sent}");
    }

    #[test]
    fn an_offset_is_never_sent_right_after_another_cluster_was_seen() {
        let (mut resume, mut attempts) = (Resume { by_offset: true, ..Resume::default() }, two());
        attempts[0].other_cluster = true;
        let sent = header(&mut resume, &mut attempts, &state(), NOW).unwrap();
        assert!(sent.contains(r#""eqiad.s","partition":0,"timestamp""#), "{sent}");
        assert!(sent.contains(r#""codfw.s","partition":0,"offset":7"#), "{sent}");
    }

    #[test]
    fn a_topic_that_is_not_served_is_left_out_and_the_others_are_asked_for() {
        let (mut resume, state) = (Resume::default(), state());
        let body =
            br#"{"message":"m","origin":"KafkaSSE","name":"TopicNotAvailableError","availableTopics":["codfw.s"]}"#;
        assert!(resume.refused(&Refusal::read(body).unwrap(), &state));
        let sent = header(&mut resume, &mut two(), &state, NOW).unwrap();
        assert!(!sent.contains("eqiad.s") && sent.contains("codfw.s"), "{sent}");
        resume.answered();
        assert!(header(&mut resume, &mut two(), &state, NOW).unwrap().contains("eqiad.s"), "asked for again later");
    }

    #[test]
    fn a_refused_header_is_tried_by_topic_then_since_then_latest() {
        let (mut resume, state) = (Resume::default(), state());
        let no = Refusal::InvalidAssignment;
        for alone in ["eqiad.s", "codfw.s"] {
            assert!(resume.refused(&no, &state));
            let sent = header(&mut resume, &mut two(), &state, NOW).unwrap();
            assert_eq!((sent.matches("topic").count(), sent.contains(alone)), (1, true), "{sent}");
        }
        assert!(resume.refused(&no, &state));
        assert_eq!(resume.plan(&state, &mut two(), 30_000, NOW).0, ResumeAt::Since(470_000));
        assert!(resume.refused(&no, &state));
        assert_eq!(resume.plan(&state, &mut two(), 30_000, NOW).0, ResumeAt::Latest);
        assert!(!resume.refused(&no, &state), "nothing is left but to wait");
        assert_eq!(resume.mode, Mode::Header);
    }

    #[test]
    fn since_is_asked_only_where_the_known_ids_are_whole() {
        let (mut resume, mut attempts) = (Resume { mode: Mode::Since, ..Resume::default() }, two());
        attempts[1].known_from_ms = Some(5);
        assert_eq!(resume.plan(&state(), &mut attempts, 30_000, NOW).0, ResumeAt::Latest);
    }
}
