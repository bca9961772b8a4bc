//! Chance, as an argument.

/// Something that can be thrown.
pub trait Dice {
    /// A number below `n`, every one as likely; zero where `n` is zero.
    fn below(&mut self, n: u32) -> u32;
}

impl Dice for fastrand::Rng {
    fn below(&mut self, n: u32) -> u32 {
        if n == 0 { 0 } else { self.u32(..n) }
    }
}
