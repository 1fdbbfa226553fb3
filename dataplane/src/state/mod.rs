//! What workers read: the snapshot, and how a new one gets to them. Knows nothing of what the operator wants.
//!
//! - In: a compiled snapshot.
//! - Out: one state for each burst.
//! - Uses: `base`, `wire`, `select`, `count`.

pub mod networks;
pub mod outage;
pub mod publication;
pub mod snapshot;
pub mod vips;
