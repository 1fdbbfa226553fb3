//! Choices that bytes make: the bytes of a fuzzer's input, or of a generator.

/// The bytes that make the choices. When all of them are used, every further choice is the first possible one.
#[derive(Debug, Clone)]
pub struct Choices<'b>(&'b [u8]);

impl<'b> Choices<'b> {
    /// Choices by these bytes.
    pub fn new(bytes: &'b [u8]) -> Self {
        Choices(bytes)
    }

    /// Whether all bytes are used.
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

    /// A number below `bound`, which must not be 0. Numbers of 65,536 and more are never chosen.
    pub fn below(&mut self, bound: usize) -> usize {
        let number: usize = if bound <= 256 { self.byte().into() } else { self.word().into() };
        number % bound
    }

    /// `true` one time in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// An element of a list, which must not be empty.
    pub fn of<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    /// The next bytes, at most `most`.
    pub fn take(&mut self, most: usize) -> &'b [u8] {
        let (taken, left) = self.0.split_at(most.min(self.0.len()));
        self.0 = left;
        taken
    }
}
