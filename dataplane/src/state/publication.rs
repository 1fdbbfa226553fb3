//! How a snapshot becomes current, and how old ones are freed.
//!
//! A [`Publisher`] (control side) makes a snapshot current; each worker has a [`SnapshotReader`] and takes the
//! current one at the top of a turn, one relaxed load where nothing changed, so that a burst sees one state. A
//! worker never frees a snapshot: the publisher keeps the old ones until nobody else holds them.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::state::snapshot::Snapshot;

/// The control side's end: makes snapshots current and frees the old ones.
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

    /// The snapshots that nobody uses any more, for the caller to free: not under a lock, since that takes a while. To be
    /// called now and then: a worker takes its time to let go.
    pub fn reclaim(&mut self) -> Vec<Arc<Snapshot>> {
        // A count of one is ours, and nobody can take another reference to what is no longer current.
        self.retired.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1).collect()
    }

    /// The current snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// A worker's or the slow path's end.
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader(Cache::new(self.current.clone()))
    }
}

/// A reader's end, one a thread.
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
        assert!(first.upgrade().is_some(), "letting go is not freeing");
        publisher.reclaim();
        assert!(first.upgrade().is_none());
    }
}
