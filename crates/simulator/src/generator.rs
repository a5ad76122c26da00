//! The seeded generator: events with the measured distributions, in virtual event time.
//!
//! Event time passes at 35 events a second whatever the speed, so that a client's margins mean the same in a
//! fast run as on the live stream.

use jiff::Timestamp;
use serde::Serialize;

use crate::random::Random;
use crate::words::{BOTS, USERS, WIKIS, Wiki};

/// Events a second of event time, as the live stream has them.
pub const DENSITY: f64 = 35.0;
/// How far ahead an odd time is: beyond the clock too where event time runs a month behind it.
const AHEAD_MS: i64 = 60 * 86_400_000;
/// Of a hundred events so many step back in time, where that is asked for.
const DISORDERED: u64 = 2;
/// Shares of the types, in thousandths.
const TYPES: [(Type, u64); 5] =
    [(Type::Edit, 631), (Type::Categorize, 300), (Type::Log, 48), (Type::New, 20), (Type::Flow, 1)];
/// Shares of namespaces of edits, in thousandths; the index is into a wiki's local names.
const NAMESPACES: [((i64, usize), u64); 9] = [
    ((0, 0), 776),
    ((6, 4), 120),
    ((3, 2), 26),
    ((4, 3), 20),
    ((2, 1), 17),
    ((1, 0), 12),
    ((10, 5), 9),
    ((14, 6), 8),
    ((104, 7), 12),
];
const CATEGORY: (i64, usize) = (14, 6);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Edit,
    Categorize,
    Log,
    New,
    Flow,
}

impl Type {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Categorize => "categorize",
            Self::Log => "log",
            Self::New => "new",
            Self::Flow => "142",
        }
    }
}

#[derive(Serialize)]
struct Meta<'a> {
    uri: String,
    request_id: String,
    id: &'a str,
    domain: &'a str,
    stream: &'a str,
    dt: String,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

#[derive(Serialize)]
struct OldNew {
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<u64>,
    new: u64,
}

/// A change in the key order of the real service; what is `None` is absent, as there.
#[derive(Serialize)]
struct Change<'a> {
    #[serde(rename = "$schema")]
    schema: &'a str,
    meta: Meta<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(rename = "type")]
    kind: &'a str,
    namespace: i64,
    title: &'a str,
    title_url: String,
    comment: &'a str,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    bot: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minor: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patrolled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<OldNew>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<OldNew>,
    server_url: String,
    server_name: &'a str,
    server_script_path: &'a str,
    wiki: &'a str,
    parsedcomment: String,
}

#[derive(Serialize)]
struct Canary<'a> {
    #[serde(rename = "$schema")]
    schema: &'a str,
    meta: Meta<'a>,
}

/// An event and when the log took it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Data centre: 0 or 1.
    pub centre: usize,
    /// `meta.id`.
    pub id: String,
    /// `type`, or `canary`.
    pub kind: &'static str,
    /// Log time, Unix milliseconds; not sorted.
    pub log_time_ms: i64,
    /// Kafka offset.
    pub offset: i64,
    /// The JSON of the event.
    pub data: Vec<u8>,
}

/// How events are made.
#[derive(Clone, Copy, Debug)]
pub struct Making {
    /// Seconds of event time between canaries of each data centre.
    pub canary_seconds: u32,
    /// Changes are made in the other data centre after so many.
    pub switch_after: Option<u64>,
    /// Events a second of event time.
    pub density: f64,
    /// How far back some log times step, milliseconds.
    pub disorder_ms: u64,
    /// Every so many events one has a log time 60 days ahead, and the next a negative one.
    pub odd_every: Option<u64>,
}

impl Default for Making {
    fn default() -> Self {
        Self { canary_seconds: 300, switch_after: None, density: DENSITY, disorder_ms: 0, odd_every: None }
    }
}

/// Makes events, one after the other.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Random,
    now_us: u64,
    last_log_ms: i64,
    making: Making,
    next_canary_us: [u64; 2],
    is_switched: bool,
    /// Event time is ahead of the wall clock.
    is_ahead: bool,
    made: u64,
    offsets: [i64; 2],
}

impl Generator {
    /// Starts event time at `epoch_ms`.
    #[must_use]
    pub fn new(seed: u64, epoch_ms: i64, making: Making) -> Self {
        let now_us = u64::try_from(epoch_ms).unwrap_or(0) * 1000;
        Self {
            random: Random::new(seed),
            now_us,
            last_log_ms: 0,
            making,
            // The first ones come soon: they are the sign of life of an idle data centre.
            next_canary_us: [now_us + 500_000, now_us + 700_000],
            is_switched: false,
            is_ahead: false,
            made: 0,
            offsets: [6_100_000_000, 2_300_000_000],
        }
    }

    /// Event time, Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.now_us / 1000).unwrap_or(i64::MAX)
    }

    /// Brings event time nearer to the wall clock; it never goes back. Where it is behind it moves an eighth of the way,
    /// where it is ahead its steps are half as long.
    pub fn pull(&mut self, wall_ms: i64) {
        let behind_ms = wall_ms - self.now_ms();
        self.is_ahead = behind_ms < 0;
        self.now_us += u64::try_from(behind_ms).unwrap_or(0) * 1000 / 8;
    }

    /// Makes changes in the other data centre from now on, or in the first one again.
    pub const fn switch(&mut self, is_switched: bool) {
        self.is_switched = is_switched;
    }

    /// The next event.
    pub fn next_event(&mut self) -> Generated {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds, above 0")]
        let twice_the_mean = (2_000_000.0 / self.making.density) as u64;
        let step = self.random.below(twice_the_mean.max(1));
        self.now_us += if self.is_ahead { step / 2 } else { step };
        for centre in [0, 1] {
            if let Some(due) = self.next_canary_us.get_mut(centre)
                && self.now_us >= *due
            {
                *due += u64::from(self.making.canary_seconds.max(1)) * 1_000_000;
                return self.canary(centre);
            }
        }
        self.made += 1;
        let switched = self.is_switched || self.making.switch_after.is_some_and(|after| self.made > after);
        self.change(usize::from(switched))
    }

    /// Log times as the live stream has them: equal milliseconds are common, steps back of some ms happen.
    fn log_time_ms(&mut self) -> i64 {
        let now_ms = i64::try_from(self.now_us / 1000).unwrap_or(i64::MAX);
        let log_ms = match self.random.below(100) {
            0..20 if self.last_log_ms > 0 => self.last_log_ms,
            20..26 => now_ms - i64::try_from(self.random.below(9)).unwrap_or(0),
            _ => now_ms,
        };
        self.last_log_ms = log_ms;
        if self.making.disorder_ms > 0 && self.random.below(100) < DISORDERED {
            return log_ms - i64::try_from(self.random.below(self.making.disorder_ms)).unwrap_or(0);
        }
        match self.making.odd_every.and_then(|every| self.made.checked_rem(every)) {
            Some(0) => log_ms + AHEAD_MS,
            Some(1) => -1 - i64::try_from(self.random.below(1000)).unwrap_or(0),
            _ => log_ms,
        }
    }

    fn meta<'a>(&mut self, id: &'a str, domain: &'a str, centre: usize, log_ms: i64, uri: String) -> Meta<'a> {
        let topic = TOPICS.get(centre).copied().unwrap_or_default();
        let offset = self.offsets.get_mut(centre).map_or(0, |offset| {
            *offset += 1;
            *offset
        });
        Meta {
            uri,
            request_id: self.random.uuid(),
            id,
            domain,
            stream: "mediawiki.recentchange",
            dt: iso(log_ms),
            topic,
            partition: 0,
            offset,
        }
    }

    /// Two shapes are seen: the bare example, and one that carries the fields of a change.
    fn canary(&mut self, centre: usize) -> Generated {
        let (id, log_time_ms) = (self.random.uuid(), self.log_time_ms());
        let meta = self.meta(&id, "canary", centre, log_time_ms, "https://canary.invalid/".to_owned());
        let data = if self.random.per_mille(500) {
            json(&Canary { schema: "/mediawiki/recentchange/1.0.1", meta })
        } else {
            json(&Change {
                schema: "/mediawiki/recentchange/1.0.1",
                meta,
                id: Some(1),
                kind: "edit",
                namespace: 0,
                title: "Canary",
                title_url: "https://canary.invalid/".to_owned(),
                comment: "",
                timestamp: log_time_ms / 1000,
                user: Some("canary".to_owned()),
                bot: false,
                notify_url: None,
                minor: None,
                patrolled: None,
                length: None,
                revision: None,
                server_url: "https://canary.invalid".to_owned(),
                server_name: "canary",
                server_script_path: "/w",
                wiki: "canary",
                parsedcomment: String::new(),
            })
        };
        Generated { offset: self.last_offset(centre), centre, id, kind: "canary", log_time_ms, data }
    }

    fn change(&mut self, centre: usize) -> Generated {
        let kind = self.random.weighted(&TYPES).unwrap_or(Type::Edit);
        let wiki = self.wiki();
        let (namespace, prefix) =
            if kind == Type::Categorize { CATEGORY } else { self.random.weighted(&NAMESPACES).unwrap_or((0, 0)) };
        let title = self.title(wiki, namespace, prefix);
        let comment = self.comment(wiki);
        let bot = self.random.per_mille(if kind == Type::Edit { 496 } else { 380 });
        let user = self.user(bot);
        let (id, log_time_ms) = (self.random.uuid(), self.log_time_ms());
        let path = title.replace(' ', "_");
        let uri = format!("https://{}/wiki/{path}", wiki.domain);
        let is_text = matches!(kind, Type::Edit | Type::New);
        let (old, revision) = (self.random.skewed(20_000), self.random.below(1 << 33));
        let new = old.saturating_add(self.random.below(400)).saturating_sub(self.random.below(120));
        let pair = |old: u64, new: u64| is_text.then(|| OldNew { old: (kind == Type::Edit).then_some(old), new });
        let meta = self.meta(&id, wiki.domain, centre, log_time_ms, uri.clone());
        let change = Change {
            schema: "/mediawiki/recentchange/1.0.0",
            meta,
            // Past 32 bits, as on the largest wikis; some log events have none.
            id: (kind != Type::Log || self.random.per_mille(450)).then(|| (1 << 32) + revision / 2),
            kind: kind.as_str(),
            namespace,
            title: &title,
            title_url: uri,
            comment: &comment,
            timestamp: log_time_ms / 1000 - i64::try_from(self.random.below(3)).unwrap_or(0),
            user,
            bot,
            notify_url: is_text.then(|| format!("https://{}/w/index.php?diff={revision}", wiki.domain)),
            minor: is_text.then(|| self.random.per_mille(140)),
            patrolled: (kind == Type::New || kind == Type::Edit && self.random.per_mille(740)).then_some(bot),
            length: pair(old, new),
            revision: pair(revision.saturating_sub(2), revision),
            server_url: format!("https://{}", wiki.domain),
            server_name: wiki.domain,
            server_script_path: "/w",
            wiki: wiki.name,
            parsedcomment: format!("<span dir=\"auto\">{comment}</span>"),
        };
        let data = json(&change);
        Generated { offset: self.last_offset(centre), centre, id, kind: kind.as_str(), log_time_ms, data }
    }

    fn last_offset(&self, centre: usize) -> i64 {
        self.offsets.get(centre).copied().unwrap_or(0)
    }

    fn wiki(&mut self) -> &'static Wiki {
        let mut at = self.random.below(WIKIS.iter().map(|(_, weight)| weight).sum());
        for (wiki, weight) in &WIKIS {
            if at < *weight {
                return wiki;
            }
            at -= weight;
        }
        &WIKIS[0].0
    }

    fn title(&mut self, wiki: &Wiki, namespace: i64, prefix: usize) -> String {
        let words = wiki.script.words();
        let count = 1 + self.random.below(3);
        let mut parts: Vec<&str> = (0..count).filter_map(|_| self.random.pick(words).copied()).collect();
        let number = self.random.below(900).to_string();
        parts.push(&number);
        let text = parts.join(" ");
        match wiki.prefixes.get(prefix) {
            Some(prefix) if namespace != 0 => format!("{prefix}:{text}"),
            // A colon in the main namespace is no prefix.
            _ if self.random.per_mille(30) => format!("{text}: {number}"),
            _ => text,
        }
    }

    fn comment(&mut self, wiki: &Wiki) -> String {
        if self.random.per_mille(86) {
            return String::new();
        }
        let words = wiki.script.words();
        let count = 2 + self.random.below(9);
        let parts: Vec<&str> = (0..count).filter_map(|_| self.random.pick(words).copied()).collect();
        format!("/* {} */ {}", parts.first().copied().unwrap_or_default(), parts.join(" "))
    }

    fn user(&mut self, bot: bool) -> Option<String> {
        if bot {
            let bots = if self.random.per_mille(500) { BOTS.get(..1).unwrap_or(&BOTS) } else { &BOTS };
            return self.random.pick(bots).map(|name| (*name).to_owned());
        }
        Some(match self.random.below(100) {
            0 => return None,
            1..4 => format!("192.0.2.{}", self.random.below(255)),
            4 => format!("2001:DB8:0:0:0:0:{:X}:{:X}", self.random.below(65_535), self.random.below(65_535)),
            5..15 => format!("~2026-{}-{}", self.random.below(99_999), self.random.below(99)),
            _ => {
                let name = self.random.pick(&USERS).copied().unwrap_or("Example");
                format!("{name} {}", self.random.below(40))
            }
        })
    }
}

/// The source topics, one per data centre.
pub const TOPICS: [&str; 2] = ["eqiad.mediawiki.recentchange", "codfw.mediawiki.recentchange"];

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Structs of strings and numbers: this cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// An instant as the stream writes it, with milliseconds.
fn iso(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn sample(seed: u64, count: usize) -> Vec<Generated> {
        let mut generator = Generator::new(seed, 1_700_000_000_000, Making { canary_seconds: 60, ..Making::default() });
        (0..count).map(|_| generator.next_event()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_gives_others() {
        assert_eq!(sample(7, 500), sample(7, 500));
        assert_ne!(sample(7, 5), sample(8, 5));
    }

    #[test]
    fn shares_rate_and_order_are_those_measured() {
        let events = sample(3, 20_000);
        let mut kinds: HashMap<&str, usize> = HashMap::new();
        for event in &events {
            *kinds.entry(event.kind).or_default() += 1;
        }
        assert!((12_000..13_200).contains(&kinds["edit"]), "{kinds:?}");
        assert!((5_600..6_400).contains(&kinds["categorize"]), "{kinds:?}");
        assert!(kinds["canary"] > 10 && kinds["142"] > 3, "{kinds:?}");
        let span_ms = events.last().unwrap().log_time_ms - events[0].log_time_ms;
        let rate = 20_000.0 / (f64::from(i32::try_from(span_ms).unwrap()) / 1000.0);
        assert!((33.0..37.0).contains(&rate), "{rate}");
        let pairs = || events.windows(2).map(|pair| pair[1].log_time_ms - pair[0].log_time_ms);
        assert!(pairs().filter(|step| *step == 0).count() > 1_000, "equal milliseconds are common");
        assert!(pairs().any(|step| step < 0), "steps back happen");
    }

    #[test]
    fn times_step_back_beyond_a_margin_and_are_odd_where_that_is_asked_for() {
        let making = Making { disorder_ms: 90_000, odd_every: Some(500), ..Making::default() };
        let mut generator = Generator::new(3, 1_700_000_000_000, making);
        let behind = |generator: &mut Generator| {
            let event = generator.next_event();
            generator.now_ms() - event.log_time_ms
        };
        let behind: Vec<i64> = (0..5_000).map(|_| behind(&mut generator)).collect();
        assert!(behind.iter().any(|ms| (40_000..90_000).contains(ms)));
        assert!(behind.iter().any(|ms| *ms < -80_000_000) && behind.iter().any(|ms| *ms > 1_000_000_000_000));
    }

    #[test]
    fn the_event_clock_is_pulled_to_the_wall_clock_and_never_back() {
        let mut generator = Generator::new(3, 1_000_000, Making::default());
        (0..60).for_each(|_| generator.pull(1_080_000));
        assert!((1_079_000..=1_080_000).contains(&generator.now_ms()), "{}", generator.now_ms());
        generator.pull(0);
        assert!(generator.now_ms() >= 1_079_000);
    }

    #[test]
    fn an_event_clock_that_is_ahead_waits_for_the_wall_clock() {
        let mut generator = Generator::new(3, 1_010_000, Making::default());
        // 35 events a second, for a minute of the wall clock that begins 10 s behind.
        for second in 1..=60 {
            (0..35).for_each(|_| drop(generator.next_event()));
            generator.pull(1_000_000 + second * 1000);
        }
        let ahead_ms = generator.now_ms() - 1_060_000;
        assert!((-1_000..1_500).contains(&ahead_ms), "{ahead_ms}");
    }

    #[test]
    fn every_edit_is_one_that_the_mapping_reads() {
        for event in sample(5, 5_000) {
            if event.kind == "canary" {
                continue;
            }
            let mapping = schema::Mapping::new(&[event.kind.to_owned()]);
            let edit = mapping.enrich(&event.data).unwrap().unwrap();
            assert_eq!((edit.event_id.as_ref(), edit.change_type.as_ref()), (event.id.as_str(), event.kind));
            assert_ne!(edit.namespace, "unknown", "{}", edit.title);
        }
    }
}
