//! The configuration: a TOML file and `SHUNT_…` environment variables, turned once into a checked [`Config`].
//!
//! Keys nobody knows are refused. All that is wrong is said at once, each with its place (line of the file and path of the key,
//! or the environment variable): an operator at night should not learn of the third mistake after mending the second.
//!
//! - In: a file, environment variables.
//! - Out: a checked [`Config`], or all that is wrong.
//! - Uses: `control` (the model checks services), `forward` and `dpdk` (types of settings), `base`, `wire`, `select`, `count`.

mod checks;
mod file;
mod problem;
mod source;

pub use checks::{Config, Director, Port, Vlan};
pub use file::Hugepages;
pub use problem::{ConfigError, Problem};
