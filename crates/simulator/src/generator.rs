//! The seeded generator: events with the measured distributions, in virtual event time.
//!
//! Event time passes at 35 events a second whatever the speed, so that a client's margins mean the same in a
//! fast run as on the live stream.

use jiff::Timestamp;
use serde::Serialize;

use crate::random::Random;
use crate::words::{BOTS, USERS, WIKIS, Wiki};

/// Mean time between events of event time, microseconds: 35 a second.
const MEAN_INTERVAL_US: u64 = 28_571;
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
    /// The JSON of the event.
    pub data: Vec<u8>,
}

/// Makes events, one after the other.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Random,
    now_us: u64,
    last_log_ms: i64,
    canary_every_us: u64,
    next_canary_us: [u64; 2],
    switch_after: Option<u64>,
    is_switched: bool,
    made: u64,
    offsets: [i64; 2],
}

impl Generator {
    /// Starts event time at `epoch_ms`.
    #[must_use]
    pub fn new(seed: u64, epoch_ms: i64, canary_seconds: u32, switch_after: Option<u64>) -> Self {
        let now_us = u64::try_from(epoch_ms).unwrap_or(0) * 1000;
        let canary_every_us = u64::from(canary_seconds.max(1)) * 1_000_000;
        Self {
            random: Random::new(seed),
            now_us,
            last_log_ms: 0,
            canary_every_us,
            // The first ones come soon: they are the sign of life of an idle data centre.
            next_canary_us: [now_us + 500_000, now_us + 700_000],
            switch_after,
            is_switched: false,
            made: 0,
            offsets: [6_100_000_000, 2_300_000_000],
        }
    }

    /// Makes changes in the other data centre from now on, or in the first one again.
    pub const fn switch(&mut self, is_switched: bool) {
        self.is_switched = is_switched;
    }

    /// The next event.
    pub fn next_event(&mut self) -> Generated {
        let step = self.random.below(MEAN_INTERVAL_US * 2);
        self.now_us += step;
        for centre in [0, 1] {
            if let Some(due) = self.next_canary_us.get_mut(centre)
                && self.now_us >= *due
            {
                *due += self.canary_every_us;
                return self.canary(centre);
            }
        }
        self.made += 1;
        let switched = self.is_switched || self.switch_after.is_some_and(|after| self.made > after);
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
        log_ms
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
        Generated { centre, id, kind: "canary", log_time_ms, data }
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
        Generated { centre, id, kind: kind.as_str(), log_time_ms, data }
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
        let mut generator = Generator::new(seed, 1_700_000_000_000, 60, None);
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
