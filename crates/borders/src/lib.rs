//! What reads the bytes of strangers, one function a border. Each takes any bytes, and checks what has to hold whatever they
//! are; `make fuzz` looks for bytes for which it does not, and the tests of this crate mutate a corpus.
//!
//! | module | what |
//! | --- | --- |
//! | [`stream`] | bytes of the stream: framing, ids, events |
//! | [`records`] | what stands in topics: edits, headers, positions, words |
//! | [`broker`] | frames of the embedded broker |
//! | [`operator`] | values of options, and text on its way to a terminal |
//! | [`mutate`] | bytes that are nearly right |

pub mod broker;
pub mod mutate;
pub mod operator;
pub mod records;
pub mod stream;

/// Takes any bytes; panics where something does not hold.
pub type Border = fn(&[u8]);

/// Every border by its name, which is also its folder in `corpus/` and its target in `fuzz/`.
pub const ALL: [(&str, Border); 9] = [
    ("framer", stream::framer),
    ("event", stream::event),
    ("sse_id", stream::sse_id),
    ("edit", records::edit),
    ("headers", records::headers),
    ("metadata", records::metadata),
    ("words", records::words),
    ("frame", broker::frame),
    ("option", operator::option),
];

/// The inputs of a border that are kept: hand-written ones, and those that once broke something.
///
/// # Panics
/// Where they cannot be read.
#[must_use]
#[expect(clippy::expect_used, reason = "for tests")]
pub fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = std::fs::read_dir(&folder).expect("every border has a corpus");
    let mut inputs: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let path = file.expect("a file of the corpus").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a file of the corpus"))
        })
        .collect();
    inputs.sort();
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::Mutations;
    use std::time::Duration;

    /// Mutated inputs at each border.
    const INPUTS: usize = 100_000;
    /// Longest time for one.
    const LIMIT: Duration = Duration::from_secs(1);
    /// Most memory of this process, whatever came.
    const MOST_KIB: u64 = 512 << 10;

    /// Time of this thread on the processor: others may have it meanwhile.
    fn on_the_processor() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn expect_quick(name: &str, what: &str, border: Border, bytes: &[u8]) {
        let started = on_the_processor();
        let result = std::panic::catch_unwind(|| border(bytes));
        let took = on_the_processor() - started;
        assert!(result.is_ok(), "{name}, {what}: {}", bytes.escape_ascii());
        assert!(took < LIMIT, "{name}, {what}: {took:?} for {}", bytes.escape_ascii());
    }

    #[test]
    fn the_corpus_and_a_hundred_thousand_mutations_of_it_hold_at_every_border() {
        let only = std::env::var("WIKI_BORDER").unwrap_or_default();
        std::thread::scope(|scope| {
            for (name, border) in ALL.into_iter().filter(|(name, _)| only.is_empty() || only == *name) {
                scope.spawn(move || {
                    let inputs = corpus(name);
                    assert!(inputs.len() >= 3, "{name}: a corpus of {}", inputs.len());
                    for (file, bytes) in &inputs {
                        expect_quick(name, file, border, bytes);
                    }
                    let seeds: Vec<Vec<u8>> = inputs.into_iter().map(|(_, bytes)| bytes).collect();
                    let mut mutations = Mutations::of(&seeds, 7);
                    for number in 0..INPUTS {
                        let bytes = mutations.next();
                        expect_quick(name, &format!("mutation {number} of seed 7"), border, &bytes);
                    }
                });
            }
        });
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        assert!(peak.is_none_or(|peak: u64| peak < MOST_KIB), "{peak:?} KiB");
    }
}
