//! The sweep: frees entries that need not be remembered any more, bucket by bucket.

use crate::count::counters::WorkerCounters;
use crate::forward::exceptions::age::is_outlived;
use crate::forward::exceptions::books::Books;
use crate::forward::exceptions::table::{Bucket, Meta, Position, Table};
use crate::state::snapshot::Snapshot;
use crate::state::vips::LastService;
use crate::wire::flow::Flow;

/// Frees the entries of a bucket that need not be remembered, and marks the others in the filter.
pub(super) fn sweep_bucket<B: Bucket>(
    table: &mut Table<B>,
    bucket: usize,
    books: &mut Books,
    snapshot: &Snapshot,
    counters: &WorkerCounters,
) {
    let mut worthless = arrayvec::ArrayVec::<Position, 4>::new();
    for (position, flow, meta) in table.flows(bucket) {
        match fate(&flow, meta, books.tick, snapshot) {
            Fate::Forget => worthless.push(position),
            Fate::Keep => {}
            Fate::Mark => books.filter.keep(snapshot.hasher.hash(&flow)),
        }
    }
    for position in worthless {
        let old = table.free(position);
        books.settle(old, None, snapshot, &counters.targets);
    }
}

/// What the sweep does with an entry.
enum Fate {
    Forget,
    /// It is kept. All flows of its service are remembered, and the filter is not asked for them.
    Keep,
    /// It is kept, and marked in the filter.
    Mark,
}

fn fate(flow: &Flow, meta: Meta, tick: u32, snapshot: &Snapshot) -> Fate {
    let service = snapshot.service(flow, &mut LastService::default());
    let Some(service) = service.filter(|_| !is_outlived(meta, tick, snapshot)) else { return Fate::Forget };
    let backend = snapshot.serving(meta.counter(), service);
    if backend.is_none() && !snapshot.is_out(meta.counter(), service) {
        return Fate::Forget;
    }
    if service.tracks {
        return Fate::Keep;
    }
    let slot = service.slot(*flow, snapshot.hasher.hash(flow), &snapshot.hasher);
    if backend == Some(service.now(slot)) && !service.has_owner(slot) { Fate::Forget } else { Fate::Mark }
}
