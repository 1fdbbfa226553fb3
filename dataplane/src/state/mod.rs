//! The state that workers read: the snapshot, and its publication. This room does not know the operator's model.
//!
//! - In: a compiled snapshot.
//! - Out: one state for each burst.
//! - Uses: `base`, `wire`, `select`, `count`.

pub mod backends;
pub mod networks;
pub mod outage;
pub mod publication;
pub mod snapshot;
pub mod vips;
