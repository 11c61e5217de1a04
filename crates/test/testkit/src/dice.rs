//! Chance that can be repeated, and how much of it a test takes.

/// A repeatable source of chance (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How many runs a test makes that makes `usual` of them: as many times more as `AEQUA_TEST_SCALE` says.
pub fn runs(usual: u64) -> u64 {
    let Ok(scale) = std::env::var("AEQUA_TEST_SCALE") else { return usual };
    usual * scale.parse::<u64>().unwrap_or_else(|_| panic!("AEQUA_TEST_SCALE is not a number: {scale}"))
}
