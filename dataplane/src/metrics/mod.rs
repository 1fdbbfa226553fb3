//! What is counted, as a page for Prometheus.
//!
//! Two kinds of recorders of the facade crate `metrics` meet on a page. What workers count, and what the API answers from, is told anew
//! at each scrape to a recorder that lives for that page (`page.rs`, told by `collect.rs`): nothing of it is kept. What happens on the control
//! side is counted where it happens, with `counter!` and `histogram!`, by the recorder of the process (`control_side.rs`). Names, types, units
//! and help of both are in `catalog.rs`; `docs/design/008-metrics.md` has the reasons.
//!
//! - In: requests over HTTP; what the control API answers from; the workers' counters; `counter!` and `histogram!` of the control side.
//! - Out: pages, in the OpenMetrics text format and the classic one (`format.rs`).
//! - Uses: `base`, `count`, `control` (the kinds of events), `api`, of `dpdk` the clock.

mod catalog;
mod collect;
mod control_side;
mod exporter;
mod format;
mod http;
mod page;

pub use control_side::{ControlSide, install};
pub use http::serve_metrics;
