//! What the keeper of the runner shares with those who give orders: the socket, while there is a runner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use crate::commands::channel::{Channel, Sent};
use crate::commands::order::Order;

/// What the keeper shares with those who give orders.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The socket to the runner, while there is one.
    channel: ArcSwapOption<Channel>,
    /// Whether somebody wants one.
    wanted: AtomicBool,
}

impl Shared {
    /// There is a runner now, or there is none any more.
    pub(super) fn set(&self, channel: Option<Arc<Channel>>) {
        self.channel.store(channel);
    }

    /// Whether somebody has given orders.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Sends an order. Where there is no runner yet, one is wanted, and there is no room until then.
    pub(super) fn send(&self, order: &Order) -> Sent {
        match self.channel.load().as_ref() {
            Some(channel) => channel.send(order),
            None => {
                self.wanted.store(true, Ordering::Relaxed);
                Sent::Full
            }
        }
    }
}
