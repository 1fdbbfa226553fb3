//! The slow path's end: orders go out, and what has become of them comes back. It never waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use crate::commands::channel::Sent;
use crate::commands::order::{Ended, Order};
use crate::commands::shared::Shared;

/// Orders that wait until the runner is there, and has room.
const WAITING: usize = 1_024;

/// The slow path's end.
pub struct Commands {
    shared: Arc<Shared>,
    ended: Receiver<Ended>,
    waiting: VecDeque<(Instant, Order)>,
}

impl Commands {
    /// Gives its orders to this runner.
    pub(super) fn new(shared: Arc<Shared>, ended: Receiver<Ended>) -> Self {
        Commands { shared, ended, waiting: VecDeque::new() }
    }

    /// Gives orders. Where there are too many, some are never carried out; nobody says so, and who gave them must give them up.
    pub fn order(&mut self, orders: Vec<Order>, now: Instant) {
        let room = WAITING.saturating_sub(self.waiting.len());
        self.waiting.extend(orders.into_iter().take(room).map(|order| (now, order)));
    }

    /// Sends what can be sent. Returns what has become of orders.
    pub fn turn(&mut self, now: Instant) -> Vec<Ended> {
        // Bound: each order is taken once.
        while let Some((since, order)) = self.waiting.front() {
            let late = now.saturating_duration_since(*since) >= order.limit();
            if !late && self.shared.send(order) == Sent::Full {
                break;
            }
            self.waiting.pop_front();
        }
        self.ended.try_iter().collect()
    }
}
