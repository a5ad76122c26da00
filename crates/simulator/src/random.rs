//! A small seeded generator of numbers: the same seed gives the same stream on every machine.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        match self.next().checked_rem(bound) {
            Some(value) => value,
            None => 0,
        }
    }

    /// Whether an event of this many chances in a thousand happens.
    pub(crate) const fn per_mille(&mut self, chances: u64) -> bool {
        self.below(1000) < chances
    }

    /// A length as pages have them: skewed, from tens of bytes to hundreds of thousands.
    pub(crate) const fn skewed(&mut self, scale: u64) -> u64 {
        let shift = self.below(8);
        self.below(scale << shift) / 8
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(from.len() as u64)).ok()?;
        from.get(index)
    }

    /// Picks by weight.
    pub(crate) fn weighted<T: Copy>(&mut self, from: &[(T, u64)]) -> Option<T> {
        let total = from.iter().map(|(_, weight)| weight).sum();
        let mut at = self.below(total);
        for (value, weight) in from {
            if at < *weight {
                return Some(*value);
            }
            at -= weight;
        }
        None
    }

    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            (low >> 48) & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff
        )
    }
}
