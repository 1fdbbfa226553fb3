//! The queue pair of a port goes, and another one comes.

use crate::base::exit::DropReason;
use crate::base::ids::PortNo;
use crate::forward::rings::Outgoing;
use crate::forward::tests::rig::{Rig, publish};
use crate::state::networks::PortLink;
use crate::testing::frame::eth;
use crate::testing::memory::MemoryIo;
use crate::testing::model::PORT;

fn syn() -> Vec<u8> {
    eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn()
}

fn link_down(rig: &Rig) -> u64 {
    rig.counters.ports[0].drops[DropReason::LinkDown.index()].read()
}

#[test]
fn a_recalled_queue_pair_is_given_back_with_the_next_snapshot() {
    let mut rig = Rig::example();
    // It has taken the first snapshot.
    rig.worker.turn();
    assert!(rig.lender.recall());
    rig.receive([syn()]);
    assert_eq!((rig.sent().len(), rig.lender.returned().is_some()), (1, false), "the snapshot is the same");
    publish(&mut rig, 2, PORT);
    rig.worker.turn();
    assert!(rig.lender.returned().is_some());
    // Its port is not polled any more, and nothing can be sent there.
    rig.wire.0.borrow_mut().rx.push_back(syn().into());
    rig.from_slow_path.push(Outgoing { port: PortNo::new(0), packet: syn().into() }).unwrap();
    rig.worker.turn();
    assert_eq!((rig.sent().len(), rig.wire.0.borrow().rx.len(), link_down(&rig)), (0, 1, 1));
    assert_eq!(rig.counters.ports[0].tx_packets.read(), 1, "the first one");
}

#[test]
fn another_queue_pair_takes_the_place_of_the_first() {
    let mut rig = Rig::example();
    assert!(rig.lender.recall());
    publish(&mut rig, 2, PortLink { up: false, ..PORT });
    rig.worker.turn();
    assert!(rig.lender.returned().is_some());
    let other = MemoryIo::default();
    rig.lender.lend(other.clone()).unwrap();
    publish(&mut rig, 3, PortLink { joins: 1, ..PORT });
    other.0.borrow_mut().rx.push_back(syn().into());
    rig.worker.turn();
    let sent = |wire: &MemoryIo| wire.0.borrow().tx.len();
    assert_eq!((sent(&other), sent(&rig.wire), link_down(&rig)), (1, 0, 0));
}
