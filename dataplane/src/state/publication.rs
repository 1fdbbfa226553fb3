//! Makes a snapshot current, and frees old ones.
//!
//! A [`Publisher`] (control side) makes a snapshot current. Each worker has a [`SnapshotReader`] and takes the current
//! snapshot at the top of a turn, so that a burst sees one state. If nothing has changed, that is one relaxed load. A
//! worker never frees a snapshot: the publisher keeps the old ones until no other thread holds them.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::state::snapshot::Snapshot;

/// The control side of the publication: makes snapshots current, and frees old ones.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    retired: Vec<Arc<Snapshot>>,
}

impl Publisher {
    /// With a first snapshot.
    pub fn new(first: Arc<Snapshot>) -> Self {
        Publisher { current: Arc::new(ArcSwap::new(first)), retired: Vec::new() }
    }

    /// Makes a snapshot current: workers take it at their next turn.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.retired.push(self.current.swap(snapshot));
    }

    /// The snapshots that are in use no more. The caller frees them, and should hold no lock meanwhile, because that
    /// takes a while. Call it now and then, since a worker may hold a snapshot for some time.
    pub fn reclaim(&mut self) -> Vec<Arc<Snapshot>> {
        // A count of one is ours. No thread can take a new reference to a snapshot that is no longer current.
        self.retired.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1).collect()
    }

    /// The current snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// A reader, for a worker or the slow path.
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader(Cache::new(self.current.clone()))
    }
}

/// The reading side of the publication. Each thread has its own reader.
#[derive(Debug)]
pub struct SnapshotReader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl SnapshotReader {
    /// The current snapshot.
    #[inline]
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::{model, snapshot};

    #[test]
    fn a_snapshot_is_freed_by_the_publisher_alone() {
        let mut publisher = Publisher::new(snapshot(model()).snapshot);
        let mut reader = publisher.reader();
        let first = Arc::downgrade(reader.load());
        publisher.publish(snapshot(model()).snapshot);
        publisher.reclaim();
        assert!(first.upgrade().is_some(), "the reader may still work with it");
        reader.load();
        assert!(first.upgrade().is_some(), "the reader does not free it");
        publisher.reclaim();
        assert!(first.upgrade().is_none());
    }
}
