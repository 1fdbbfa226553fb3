//! Decisions made by bytes: those of a fuzzer's input, or of a generator.

/// Bytes to decide by. When they have all been used, every further decision is for the first of what there is.
#[derive(Debug, Clone)]
pub struct Choices<'b>(&'b [u8]);

impl<'b> Choices<'b> {
    /// By these bytes.
    pub fn new(bytes: &'b [u8]) -> Self {
        Choices(bytes)
    }

    /// Whether nothing is left to decide by.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// The next two bytes.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `bound`, which must not be 0; of all of them only where there are not more than 65,536.
    pub fn below(&mut self, bound: usize) -> usize {
        let number: usize = if bound <= 256 { self.byte().into() } else { self.word().into() };
        number % bound
    }

    /// One time in so many.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of a list, which must not be empty.
    pub fn of<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    /// The next bytes, at most so many.
    pub fn take(&mut self, most: usize) -> &'b [u8] {
        let (taken, left) = self.0.split_at(most.min(self.0.len()));
        self.0 = left;
        taken
    }
}
