//! Lending: a port's queue pairs come and go while workers run, since its device may go away, and another one may come in its place.
//!
//! The control side lends a worker a queue pair, or recalls it, and then publishes a snapshot. The worker looks for that when it takes the
//! snapshot, at the top of a turn, so it costs nothing in other turns. It gives back what it had, and never drops it: with the last queue
//! pair, a device is closed, which takes its time.

use rtrb::{Consumer, Producer, RingBuffer};

/// What is on its way to a worker: a recall, and then another queue pair.
const ON_THE_WAY: usize = 2;

/// The control side's ends of the rings: for one worker and one port.
#[derive(Debug)]
pub struct Lender<Io> {
    lent: Producer<Option<Io>>,
    returned: Consumer<Io>,
}

/// The worker's ends.
#[derive(Debug)]
pub struct Borrower<Io> {
    lent: Consumer<Option<Io>>,
    returned: Producer<Io>,
}

/// Both ends.
pub fn lending<Io>() -> (Lender<Io>, Borrower<Io>) {
    let ((to_worker, lent), (returned, from_worker)) = (RingBuffer::new(ON_THE_WAY), RingBuffer::new(ON_THE_WAY));
    (Lender { lent: to_worker, returned: from_worker }, Borrower { lent, returned })
}

impl<Io> Lender<Io> {
    /// Lends the worker a queue pair.
    ///
    /// # Errors
    /// Gives it back if the worker has not yet taken notice of the last ones.
    pub fn lend(&mut self, io: Io) -> Result<(), Io> {
        self.lent.push(Some(io)).map_err(|rtrb::PushError::Full(io)| io.expect("it is the one to be lent"))
    }

    /// Asks for the queue pair that the worker has. Returns whether there was room to ask.
    pub fn recall(&mut self) -> bool {
        self.lent.push(None).is_ok()
    }

    /// A queue pair that the worker has given back.
    pub fn returned(&mut self) -> Option<Io> {
        self.returned.pop().ok()
    }
}

impl<Io> Borrower<Io> {
    /// Takes what was lent, and gives back what it replaces.
    pub fn exchange(&mut self, io: &mut Option<Io>) {
        for _ in 0..ON_THE_WAY {
            // What does not fit cannot be taken back: it is left for the next time.
            if self.returned.is_full() {
                return;
            }
            let Ok(next) = self.lent.pop() else { return };
            if let Some(before) = std::mem::replace(io, next) {
                let _ = self.returned.push(before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_pair_is_given_back_when_it_is_recalled_or_replaced() {
        let (mut lender, mut borrower) = lending::<u8>();
        let mut io = Some(1);
        borrower.exchange(&mut io);
        assert_eq!((io, lender.returned()), (Some(1), None), "nothing is asked");
        assert!(lender.recall());
        borrower.exchange(&mut io);
        assert_eq!((io, lender.returned()), (None, Some(1)));
        assert!(lender.recall());
        lender.lend(2).unwrap();
        borrower.exchange(&mut io);
        assert_eq!((io, lender.returned()), (Some(2), None), "there was nothing to give back");
        lender.lend(3).unwrap();
        borrower.exchange(&mut io);
        assert_eq!((io, lender.returned(), lender.returned()), (Some(3), Some(2), None));
    }

    #[test]
    fn none_is_lost_where_one_side_does_not_keep_up() {
        let (mut lender, mut borrower) = lending::<u8>();
        let mut io = Some(0);
        let (mut next, mut back) = (1, Vec::new());
        for round in 0..20 {
            if lender.lend(next).is_ok() {
                next += 1;
            }
            if round % 3 == 0 {
                borrower.exchange(&mut io);
            }
            if round % 7 == 0 {
                back.extend(lender.returned());
            }
        }
        for _ in 0..ON_THE_WAY {
            borrower.exchange(&mut io);
            back.extend(std::iter::from_fn(|| lender.returned()));
        }
        assert_eq!((back, io), ((0..next - 1).collect(), Some(next - 1)), "all, in order");
        assert!(lender.recall() && lender.recall() && !lender.recall(), "the rings are bounded");
        assert_eq!(lender.lend(9), Err(9));
    }
}
