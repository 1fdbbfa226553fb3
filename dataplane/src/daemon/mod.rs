//! Puts it all together: cores, memory, ports, threads; and takes it down again.
//!
//! - In: a checked configuration.
//! - Out: a director that runs.
//! - Uses: `base`, `log`, `count`, `dpdk`, `state`, `forward`, `control`, `commands`, `health`, `slow`, `api`, `metrics`, `config`, `netlink`.

mod cores;
mod devices;
mod eal;
mod follow;
mod followed;
mod hugepages;
pub mod memory;
mod place;
mod port_watch;
mod ports;
pub mod process;
mod run;
mod serve;
mod threads;
mod workers;
