//! What a device tells of itself, unasked: that its link is down, or that it was removed.
//!
//! DPDK calls from its thread for interrupts. All that is done there is to note it; whoever follows the ports asks.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

use dpdk_sys::{
    RTE_ETH_EVENT_INTR_LSC, RTE_ETH_EVENT_INTR_RMV, SHUNT_ETH_INTR_LSC, SHUNT_ETH_INTR_RMV, rte_eth_conf,
    rte_eth_dev_info, rte_eth_event_type, rte_eth_link,
};

/// The events that are noted.
const EVENTS: [rte_eth_event_type; 2] = [RTE_ETH_EVENT_INTR_LSC, RTE_ETH_EVENT_INTR_RMV];

/// How often, and after what time, a callback is taken away again that is being called at the moment.
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(1);

/// What a device has told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortNews {
    /// Its link was down, and perhaps it is up again.
    pub link_was_down: bool,
    /// It was removed.
    pub removed: bool,
}

#[derive(Debug, Default)]
struct Notes {
    link_was_down: AtomicBool,
    removed: AtomicBool,
}

/// Notes what a port's device tells, until it is dropped.
#[derive(Debug)]
pub(super) struct PortEvents {
    port: u16,
    /// DPDK has a pointer to it.
    notes: Option<Box<Notes>>,
}

/// Has the device interrupt for what it can tell.
pub(super) fn enable(conf: &mut rte_eth_conf, info: &rte_eth_dev_info) {
    if info.dev_flags.is_null() {
        return;
    }
    // SAFETY: a device's flags, which stay as long as the device.
    let flags = unsafe { info.dev_flags.read() };
    conf.intr_conf.set_lsc(u32::from(flags & SHUNT_ETH_INTR_LSC != 0));
    conf.intr_conf.set_rmv(u32::from(flags & SHUNT_ETH_INTR_RMV != 0));
}

impl PortEvents {
    /// Begins to note.
    ///
    /// # Safety
    /// The port exists until after this value is dropped.
    pub(super) unsafe fn new(port: u16) -> Self {
        let notes = Box::<Notes>::default();
        for event in EVENTS {
            // Where there is no memory for it, the device is asked for its link only.
            // SAFETY: the port exists; `note` takes its last argument for what it is here, and it stays until the callback is taken away.
            let _ = unsafe { dpdk_sys::rte_eth_dev_callback_register(port, event, Some(note), argument(&notes)) };
        }
        PortEvents { port, notes: Some(notes) }
    }

    /// What the device has told since the last question.
    pub(super) fn news(&self) -> PortNews {
        let taken = |which: fn(&Notes) -> &AtomicBool| {
            self.notes.as_deref().is_some_and(|notes| which(notes).swap(false, Relaxed))
        };
        PortNews { link_was_down: taken(|notes| &notes.link_was_down), removed: taken(|notes| &notes.removed) }
    }
}

impl Drop for PortEvents {
    fn drop(&mut self) {
        let Some(notes) = self.notes.take() else { return };
        let gone = EVENTS.map(|event| {
            // SAFETY: the port exists; this only takes away what was given.
            let take =
                || unsafe { dpdk_sys::rte_eth_dev_callback_unregister(self.port, event, Some(note), argument(&notes)) };
            (0..TRIES).any(|_| {
                let being_called = take() == -nix::libc::EAGAIN;
                if being_called {
                    sleep(BETWEEN);
                }
                !being_called
            })
        });
        if gone.contains(&false) {
            // DPDK may still use it.
            std::mem::forget(notes);
        }
    }
}

fn argument(notes: &Notes) -> *mut c_void {
    std::ptr::from_ref(notes).cast_mut().cast()
}

unsafe extern "C" fn note(port: u16, event: rte_eth_event_type, notes: *mut c_void, _: *mut c_void) -> c_int {
    // SAFETY: what was given with the callback, which is there as long as the callback.
    let notes = unsafe { &*notes.cast_const().cast::<Notes>() };
    notes.take(event, || is_down(port));
    0
}

impl Notes {
    fn take(&self, event: rte_eth_event_type, is_down: impl FnOnce() -> bool) {
        match event {
            // Some drivers tell of a change seconds later; what the link was then is known already.
            RTE_ETH_EVENT_INTR_LSC if is_down() => self.link_was_down.store(true, Relaxed),
            RTE_ETH_EVENT_INTR_RMV => self.removed.store(true, Relaxed),
            _ => {}
        }
    }
}

/// Whether a port's link is down. With interrupts for it, that is a look into memory.
fn is_down(port: u16) -> bool {
    let mut link = rte_eth_link::default();
    // SAFETY: the structure is written whole where the answer is 0.
    unsafe { dpdk_sys::rte_eth_link_get_nowait(port, &raw mut link) == 0 && link.link_status() == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_said_once() {
        // DPDK was not started, and has no such port.
        let events = PortEvents { port: 31, notes: Some(Box::default()) };
        assert_eq!(events.news(), PortNews::default());
        let told = |event| {
            // SAFETY: the argument is that of the callback.
            assert_eq!(unsafe { note(31, event, argument(events.notes.as_ref().unwrap()), std::ptr::null_mut()) }, 0);
            events.news()
        };
        let notes = events.notes.as_deref().unwrap();
        notes.take(RTE_ETH_EVENT_INTR_LSC, || true);
        notes.take(RTE_ETH_EVENT_INTR_LSC, || false);
        assert_eq!(events.news(), PortNews { link_was_down: true, removed: false });
        assert_eq!(told(RTE_ETH_EVENT_INTR_LSC), PortNews::default(), "nobody can say that it is down");
        assert_eq!(told(RTE_ETH_EVENT_INTR_RMV), PortNews { link_was_down: false, removed: true });
        assert_eq!(told(dpdk_sys::RTE_ETH_EVENT_INTR_RESET), PortNews::default());
    }
}
