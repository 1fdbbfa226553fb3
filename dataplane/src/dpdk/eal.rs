//! The environment abstraction layer: DPDK's start and end.

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::dpdk::cpu::set_tsc_hz;
use crate::dpdk::error::DpdkError;
use crate::dpdk::registry::Registry;

/// The initialized library. All that needs it holds it; when the last holder lets go, DPDK cleans up.
///
/// A process has one value of this type in its life, so nothing of one `Eal` can meet anything of another. `Send` and `Sync`: the
/// calls that DPDK does not allow at the same time (opening and closing ports, making pools) take turns.
#[derive(Debug)]
pub struct Eal {
    registry: Mutex<Registry>,
}

/// Where packet memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Hugepages, as many as are asked for.
    Huge,
    /// Plain pages, this many MiB.
    Plain {
        /// Size in MiB.
        mib: usize,
    },
}

/// What the library is initialized with.
#[derive(Debug, Clone)]
pub struct EalOptions {
    /// The core of the thread that initializes.
    pub main_lcore: usize,
    /// Where packet memory comes from.
    pub memory: Memory,
    /// Sets this process's runtime folder off from those of other DPDK processes.
    pub file_prefix: String,
    /// PCI devices to take. Without any, the PCI bus is left alone.
    pub pci: Vec<String>,
    /// More arguments, as the operator wrote them.
    pub extra: Vec<String>,
}

/// Why DPDK does not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// EAL can be initialized once in a process's life.
    #[error("DPDK has been initialized before in this process")]
    Twice,
    /// An argument with a NUL byte.
    #[error("The EAL argument {0:?} contains a NUL byte")]
    Argument(String),
    /// `rte_eal_init` failed.
    #[error("DPDK does not start with the arguments {arguments:?}; its own messages stand above")]
    Init {
        /// What it was given.
        arguments: Vec<String>,
        /// What it says.
        source: DpdkError,
    },
}

static INITIALIZED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Initializes DPDK. Pins the calling thread to the main lcore; threads that it starts from then on inherit that.
    ///
    /// # Errors
    /// On the second call in a process's life, also where the first one failed; where an argument has a NUL byte; and where
    /// `rte_eal_init` fails, which has written the reason to standard error then.
    pub fn init(options: &EalOptions) -> Result<Arc<Eal>, EalError> {
        let arguments = options.arguments();
        let strings: Result<Vec<CString>, _> =
            arguments.iter().map(|argument| CString::new(argument.as_str())).collect();
        let strings = strings.map_err(|_| EalError::Argument(arguments.join(" ")))?;
        if INITIALIZED.swap(true, Ordering::Relaxed) {
            return Err(EalError::Twice);
        }
        // SAFETY: may be called before the initialization, and at this time by nobody else: the flag above. Its argument is the C
        // library's standard error, which is never closed.
        if unsafe { dpdk_sys::shunt_log_to_stderr() } < 0 {
            tracing::warn!("DPDK writes its messages to syslog, too: {}", DpdkError::last());
        }
        let mut strings: Vec<*mut c_char> = strings.into_iter().map(CString::into_raw).collect();
        let count = i32::try_from(strings.len()).expect("a handful of arguments");
        // SAFETY: `strings` are `count` NUL-terminated strings. EAL keeps pointers into them and reorders the array:
        // the strings were leaked by `into_raw` above, the array outlives the call, which is all that EAL asks for it. The
        // flag above makes this the only call in the process.
        let parsed = unsafe { dpdk_sys::rte_eal_init(count, strings.as_mut_ptr()) };
        if parsed < 0 {
            return Err(EalError::Init { arguments, source: DpdkError::last() });
        }
        // SAFETY: initialized: reads a variable that EAL does not write any more.
        set_tsc_hz(unsafe { dpdk_sys::rte_get_tsc_hz() });
        Ok(Arc::new(Eal { registry: Mutex::default() }))
    }
}

impl Eal {
    /// Where EAL keeps files of this process; without shared configuration, none. EAL leaves the folder when it ends.
    pub fn runtime_folder(&self) -> PathBuf {
        // SAFETY: initialized, since `self` exists: a NUL-terminated string that EAL does not change any more.
        let folder = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
        folder.to_string_lossy().into_owned().into()
    }

    /// What is open. As long as the caller keeps it, no port is opened or closed and no pool made.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // SAFETY: initialized, since `self` exists, and nothing else uses DPDK any more: ports, mempools and registered threads hold
        // an `Arc` of `self`; queue pairs hold ports, and a mempool that is dropped while mbufs are out keeps EAL for ever.
        let code = unsafe { dpdk_sys::rte_eal_cleanup() };
        if code < 0 {
            tracing::warn!("DPDK's cleanup failed: {}", DpdkError::from_return(code));
        }
    }
}

impl EalOptions {
    fn arguments(&self) -> Vec<String> {
        // No telemetry socket, no shared configuration: nothing of ours in /run/dpdk that could be in the way of a restart.
        let mut arguments = ["shuntd", "--no-telemetry", "--no-shconf", "--log-level", "*:warning", "--file-prefix"]
            .map(String::from)
            .to_vec();
        arguments.push(self.file_prefix.clone());
        // EAL numbers its lcores up to 127, and cores may have higher numbers.
        arguments.extend(["--lcores".into(), format!("0@{}", self.main_lcore)]);
        match self.memory {
            // Freed with the process, however it ends: no page stays lost after a kill -9.
            Memory::Huge => arguments.push("--huge-unlink".into()),
            Memory::Plain { mib } => arguments.extend(["--no-huge".into(), "-m".into(), mib.to_string()]),
        }
        if self.pci.is_empty() {
            arguments.push("--no-pci".into());
        }
        for device in &self.pci {
            arguments.extend(["-a".into(), device.clone()]);
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// DPDK's release, as it writes it: `DPDK 22.11.7`.
pub fn version() -> String {
    // SAFETY: returns a constant string; may be called before the initialization.
    unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}
