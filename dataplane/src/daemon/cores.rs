//! Which thread may use which core.

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tracing::warn;

use crate::config::Director;

/// The cores that this process may use.
pub(super) struct Cores(CpuSet);

impl Cores {
    /// Checks that each core that the configuration names is one of them.
    pub(super) fn check(director: &Director) -> anyhow::Result<Cores> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("This process's cores cannot be asked for")?;
        for core in director.workers.iter().chain([&director.slow_path]) {
            if !allowed.is_set(*core).unwrap_or(false) {
                let usable = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
                let usable: Vec<String> = usable.map(|core| core.to_string()).collect();
                bail!("Core {core} is not one that this process may use: it may use {}", usable.join(", "));
            }
        }
        Ok(Cores(allowed))
    }

    /// All cores but the workers'; `None` where the workers have all cores.
    pub(super) fn without(&self, workers: &[usize]) -> Option<CpuSet> {
        let mut cores = self.0;
        for &core in workers {
            let _ = cores.unset(core);
        }
        let any = (0..CpuSet::count()).any(|core| cores.is_set(core).unwrap_or(false));
        any.then_some(cores)
    }

    /// Lets this thread, and those that it will start, use all cores but the workers'.
    pub(super) fn keep_off(&self, workers: &[usize]) {
        // Where the workers have all cores, the control threads share the slow path's.
        if let Some(cores) = self.without(workers)
            && let Err(problem) = sched_setaffinity(Pid::from_raw(0), &cores)
        {
            warn!("the control threads stay on the slow path's core: {problem}");
        }
    }
}
