//! The configuration: a TOML file and `SHUNT_…` environment variables, turned once into a checked [`Config`].
//!
//! Unknown keys are refused. All that is wrong is said at once, each with where it stands (line of the file and path of the key, or the
//! environment variable): an operator at night should not learn of the third mistake after mending the second.
//!
//! A key is a row of its section, in `director.rs`, `ports.rs` or `services.rs`; below the rows is what checks them. The documentation
//! and the sample file are generated from the rows (`reference.rs`).
//!
//! - In: a file, environment variables.
//! - Out: a checked [`Config`], or all that is wrong; the reference and the sample file.
//! - Uses: `control` (the model checks services), `commands` (whether their programs are there), `forward` and `dpdk` (types of settings), `base`, `wire`, `select`, `count`.

mod director;
mod environment;
mod file;
mod load;
mod ports;
mod problem;
mod reference;
mod rows;
mod services;
mod source;

pub use director::{Director, Hugepages};
pub use load::Config;
pub use ports::{Port, Vlan};
pub use problem::{ConfigError, Problem};
pub use reference::{reference, sample};
