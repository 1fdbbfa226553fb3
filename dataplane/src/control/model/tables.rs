//! The Maglev tables that are in use, by the backends that they were built from.
//!
//! A table depends only on the backends' addresses and weights. A farm of servers behind many VIPs or many ports has
//! one table. It is built once, and is in the workers' caches once.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use hashbrown::HashMap;
use metrics::histogram;

use crate::base::ids::BackendNo;
use crate::select::maglev::Candidate;

/// Finds the tables that some service uses.
#[derive(Debug, Default)]
pub(super) struct Tables(Mutex<ByPool>);

/// Tables by the addresses and weights of backends.
type ByPool = HashMap<Box<[(IpAddr, u32)]>, Weak<[BackendNo]>>;

/// After this number of new tables, the entries of unused ones are removed. Their memory is not freed before.
const TIDY_EVERY: usize = 64;

impl Tables {
    /// The table of these candidates. If there is none, the caller builds it. Two callers may build the same table at
    /// the same time; then both get the first one.
    pub(super) fn find_or(
        &self,
        candidates: &[Candidate],
        build: impl FnOnce() -> Arc<[BackendNo]>,
    ) -> Arc<[BackendNo]> {
        let key = candidates.iter().map(|candidate| (candidate.address, candidate.weight)).collect();
        if let Some(table) = self.lock().get(&key).and_then(Weak::upgrade) {
            return table;
        }
        let begin = Instant::now();
        let table = build();
        histogram!("shunt_table_build_seconds").record(begin.elapsed());
        let mut tables = self.lock();
        if let Some(existing) = tables.get(&key).and_then(Weak::upgrade) {
            return existing;
        }
        tables.insert(key, Arc::downgrade(&table));
        if tables.len().is_multiple_of(TIDY_EVERY) {
            tables.retain(|_, table| table.strong_count() > 0);
        }
        table
    }

    /// Frees the tables that are not in use any more.
    pub(super) fn forget(&self) {
        self.lock().retain(|_, table| table.strong_count() > 0);
    }

    fn lock(&self) -> MutexGuard<'_, ByPool> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weight: u32) -> Vec<Candidate> {
        vec![Candidate { address: "192.168.0.3".parse().unwrap(), weight }]
    }

    fn table(slots: &[usize]) -> Arc<[BackendNo]> {
        slots.iter().copied().map(BackendNo::new).collect()
    }

    #[test]
    fn the_same_backends_share_a_table_as_long_as_it_is_in_use() {
        let tables = Tables::default();
        let first = tables.find_or(&candidates(1), || table(&[1, 2, 3]));
        let second = tables.find_or(&candidates(1), || panic!("it is there"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(*tables.find_or(&candidates(2), || table(&[4])), *table(&[4]));
        tables.forget();
        assert_eq!(tables.lock().len(), 1, "one is in use");
        drop((first, second));
        assert_eq!(*tables.find_or(&candidates(1), || table(&[5])), *table(&[5]));
    }
}
