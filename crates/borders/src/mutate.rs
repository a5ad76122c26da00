//! Bytes that are nearly right: a seeded walk from those of a corpus.

/// Numbers and texts at which something often breaks.
const WORDS: [&[u8]; 22] = [
    b"-9223372036854775808",
    b"9223372036854775807",
    b"18446744073709551616",
    b"2147483648",
    b"-1",
    b"1e308",
    b"null",
    b"{}",
    b"[[[[[[[[",
    b"\"\"",
    b"\\u0000",
    b"\\ud800",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b"\xff\xfe",
    b"\0",
    b"\r\n\r\n",
    b"data:",
    b"id:",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff\x0f",
];
/// Longest input.
const MOST_BYTES: usize = 4_096;

/// An endless supply of mutations.
#[derive(Debug)]
pub struct Mutations<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Mutations of these inputs; the same for the same seed.
    #[must_use]
    pub const fn of(seeds: &'a [Vec<u8>], seed: u64) -> Self {
        Self { seeds, state: seed }
    }

    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.seed();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes);
        }
        bytes.truncate(MOST_BYTES);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap_or(0),
            2 if at < end => drop(bytes.drain(at..end)),
            3 if at < end => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => bytes.truncate(at),
            5 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }

    fn seed(&mut self) -> Vec<u8> {
        if self.seeds.is_empty() { Vec::new() } else { self.seeds[self.below(self.seeds.len())].clone() }
    }

    /// A number below this one (splitmix64).
    fn below(&mut self, most: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let number = usize::try_from((z ^ (z >> 31)) >> 1).unwrap_or(0);
        number.checked_rem(most).unwrap_or(0)
    }
}
