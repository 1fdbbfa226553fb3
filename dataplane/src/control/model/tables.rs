//! The Maglev tables that are in use, by what they were made of.
//!
//! A table depends on nothing but the backends' addresses and weights. A farm of servers behind many VIPs, or many ports, has one
//! table: it is built once, and is in the workers' caches once.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use hashbrown::HashMap;

use crate::base::ids::BackendNo;
use crate::select::maglev::Candidate;

/// Finds a table that somebody has.
#[derive(Debug, Default)]
pub(super) struct Tables(Mutex<ByPool>);

/// Tables by the addresses and weights of backends.
type ByPool = HashMap<Box<[(IpAddr, u32)]>, Weak<[BackendNo]>>;

/// After so many new ones, those that nobody has are looked for: their memory is not free before.
const TIDY_EVERY: usize = 64;

impl Tables {
    /// The table of these candidates. Where there is none, it is built, by whoever asks; two may do that at a time.
    pub(super) fn find_or(
        &self,
        candidates: &[Candidate],
        build: impl FnOnce() -> Arc<[BackendNo]>,
    ) -> Arc<[BackendNo]> {
        let key = candidates.iter().map(|candidate| (candidate.address, candidate.weight)).collect();
        if let Some(table) = self.lock().get(&key).and_then(Weak::upgrade) {
            return table;
        }
        let table = build();
        let mut tables = self.lock();
        if let Some(others) = tables.get(&key).and_then(Weak::upgrade) {
            return others;
        }
        tables.insert(key, Arc::downgrade(&table));
        if tables.len().is_multiple_of(TIDY_EVERY) {
            tables.retain(|_, table| table.strong_count() > 0);
        }
        table
    }

    /// Lets go of those that nobody has.
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
    fn the_same_backends_have_one_table_as_long_as_somebody_has_it() {
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
