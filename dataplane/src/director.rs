//! The control side's state: the model, the backends' MAC addresses, and the snapshot made of both.
//!
//! All changes go through [`Director`], from the API or from the slow path, one after the other: a new model or new
//! MAC addresses are compiled to a snapshot and published, or nothing changes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use ctl::Mac;
use hashbrown::HashMap;

use crate::counters::{TargetIds, WorkerCounters};
use crate::model::Model;
use crate::model::compile::compile;
use crate::snapshot::{PortLink, Publisher, Snapshot, SnapshotReader};

/// The control side's state.
#[derive(Debug)]
pub struct Director {
    ids: Arc<TargetIds>,
    workers: Vec<Arc<WorkerCounters>>,
    ports: Vec<PortLink>,
    /// Who changes the model: one at a time, and without holding up those who only look, or the slow path.
    changing: Mutex<()>,
    state: Mutex<State>,
    started: Instant,
}

#[derive(Debug)]
struct State {
    model: Arc<Model>,
    macs: HashMap<IpAddr, Mac>,
    publisher: Publisher,
    generation: u64,
}

impl Director {
    /// With a first model. `ports` are those that the model's networks are on.
    pub fn new(model: Model, ids: Arc<TargetIds>, workers: Vec<Arc<WorkerCounters>>, ports: Vec<PortLink>) -> Self {
        let model = Arc::new(model);
        let first = compile(model.clone(), |_| None, &ports, 1);
        let state = State { model, macs: HashMap::new(), publisher: Publisher::new(first), generation: 1 };
        Director { ids, workers, ports, changing: Mutex::new(()), state: Mutex::new(state), started: Instant::now() }
    }

    /// Changes the model: all of it is done and published, or, on an error, none of it. Returns the number of the
    /// snapshot that has the change.
    pub fn change<E>(&self, change: impl FnOnce(&mut Model, &Arc<TargetIds>) -> Result<(), E>) -> Result<u64, E> {
        let _turn = self.changing.lock().expect("whoever changes the model checks first, and does not panic");
        let mut model = Model::clone(&self.state().model);
        model.now_ms = self.now_ms();
        // Tables are built here.
        change(&mut model, &self.ids)?;
        let mut state = self.state();
        state.model = Arc::new(model);
        Ok(state.publish(&self.ports))
    }

    /// Tells what MAC addresses the backends have. Publishes if that changes anything. Backends that were added to a
    /// running service and wait for their MAC addresses take part from then on, in a snapshot of their own.
    pub fn set_macs(&self, macs: HashMap<IpAddr, Mac>) {
        let mut state = self.state();
        if state.macs != macs {
            state.macs = macs;
            state.publish(&self.ports);
        }
    }

    /// Has those take part who waited for a MAC address that is known now. Returns whether there were any.
    pub fn join_resolved(&self) -> bool {
        let (model, macs) = {
            let state = self.state();
            (state.model.clone(), state.macs.clone())
        };
        let resolved = |address: IpAddr| macs.contains_key(&address);
        if !model.awaits(resolved) {
            return false;
        }
        self.change_surely(|model| model.join(resolved));
        true
    }

    /// Says which backends cannot be reached: nothing goes there. The others can.
    pub fn set_down(&self, down: &HashSet<IpAddr>) {
        let model = self.state().model.clone();
        if model.down_differs(down) {
            self.change_surely(|model| model.set_down(down));
        }
    }

    /// Ends hand-overs and drains whose time is over; to be called now and then.
    pub fn expire(&self) {
        let model = self.state().model.clone();
        if model.next_deadline().is_some_and(|next| next <= self.now_ms()) {
            self.change_surely(Model::expire);
        }
    }

    fn change_surely(&self, change: impl FnOnce(&mut Model)) {
        let changed = self.change(|model, _| {
            change(model);
            Ok::<(), std::convert::Infallible>(())
        });
        changed.expect("nothing can be refused");
    }

    /// The time of changes, in ms since the start.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("not in the age of the universe")
    }

    /// Frees the snapshots that nobody uses any more; to be called now and then.
    pub fn reclaim(&self) {
        // Another time will do.
        if let Ok(mut state) = self.state.try_lock() {
            state.publisher.reclaim();
        }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state().publisher.current()
    }

    /// For a thread that follows the snapshots.
    pub fn reader(&self) -> SnapshotReader {
        self.state().publisher.reader()
    }

    /// What the workers count, by worker.
    pub fn workers(&self) -> &[Arc<WorkerCounters>] {
        &self.workers
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whoever changes the state checks first, and does not panic")
    }
}

impl State {
    fn publish(&mut self, ports: &[PortLink]) -> u64 {
        self.generation += 1;
        let macs = &self.macs;
        let snapshot = compile(self.model.clone(), |address| macs.get(&address).copied(), ports, self.generation);
        self.publisher.publish(snapshot);
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::{PORT, backend, ids, model, service};

    fn director() -> Director {
        Director::new(model(), ids(), vec![], vec![PORT])
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let director = director();
        let add = |vip| director.change(|model, ids| model.add_service(&service(vip, &[("192.168.0.3", 1)]), ids));
        assert_eq!(add("192.168.0.101:80"), Ok(2));
        assert!(add("192.168.0.101:80").is_err());
        assert_eq!(director.snapshot().generation, 2);
    }

    #[test]
    fn a_mac_address_reaches_all_services_of_its_backend() {
        let director = director();
        for vip in ["192.168.0.101:80", "192.168.0.102:80"] {
            director.change(|model, ids| model.add_service(&service(vip, &[("192.168.0.3", 1)]), ids)).unwrap();
        }
        assert!(director.snapshot().targets.iter().all(|target| !target.known));
        let mac = Mac([2, 0, 0, 0, 0, 3]);
        director.set_macs([("192.168.0.3".parse().unwrap(), mac)].into_iter().collect());
        let snapshot = director.snapshot();
        assert_eq!(snapshot.targets.len(), 2);
        assert!(snapshot.targets.iter().all(|target| target.known && target.mac() == mac.0));
    }

    #[test]
    fn a_backend_added_to_a_running_service_gets_flows_when_it_is_resolved() {
        let director = director();
        let [first, second]: [IpAddr; 2] = ["192.168.0.3", "192.168.0.4"].map(|address| address.parse().unwrap());
        let wanted = service("192.168.0.101:80", &[("192.168.0.3", 1)]);
        director.change(|model, ids| model.add_service(&wanted, ids)).unwrap();
        let shares = || -> Vec<u32> {
            let snapshot = director.snapshot();
            snapshot.model.services[&wanted.service].backends.iter().map(|backend| backend.slots).collect()
        };
        assert_eq!(shares(), [1_021], "from the start: its share is its own, resolved or not");
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        director.set_macs([(first, mac(3))].into_iter().collect());
        director.change(|model, ids| model.add_backend(&wanted.service, &backend("192.168.0.4", 1), ids)).unwrap();
        assert!(!director.join_resolved());
        assert_eq!(shares(), [1_021, 0]);
        director.set_macs([(first, mac(3)), (second, mac(4))].into_iter().collect());
        assert!(director.join_resolved());
        assert_eq!(shares().iter().sum::<u32>(), 1_021);
        assert!(shares()[1].abs_diff(510) <= 1);
        // Lost again, it keeps its share: who decides that it is down is somebody else.
        director.set_macs([(first, mac(3))].into_iter().collect());
        assert!(!director.join_resolved());
        assert!(shares()[1].abs_diff(510) <= 1);
    }

    #[test]
    fn the_same_macs_again_are_no_new_snapshot() {
        let director = director();
        director.set_macs(HashMap::new());
        assert_eq!(director.snapshot().generation, 1);
    }
}
