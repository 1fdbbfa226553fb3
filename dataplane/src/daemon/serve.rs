//! What the operator talks to: the control socket, metrics over HTTP, and the signals.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use tracing::{info, warn};

use crate::api::Facts;
use crate::api::server::{Server, SocketGuard};
use crate::config::Director;
use crate::count::recent::Recent;
use crate::daemon::threads::Threads;
use crate::metrics::serve_metrics;

/// How often the main thread looks for signals and at its workers.
const TICK: Duration = Duration::from_millis(50);

/// Starts the threads that answer, on the cores of the calling thread. Until the guard is dropped, there is a control socket.
pub(super) fn serve(server: Server, facts: Facts, director: &Director) -> anyhow::Result<SocketGuard> {
    let facts = Arc::new(facts);
    if let Some(address) = director.metrics {
        serve_metrics(address, facts.clone()).context("The thread of the metrics cannot be started")?;
    }
    let socket = server.run(facts).context("The control socket's thread cannot be started")?;
    info!(socket = %director.socket.display(), "the control socket is served");
    Ok(socket)
}

/// Returns when the daemon is to end. Until then, it keeps count of the time for what is recent.
pub(super) fn wait(signals: &mut Signals, threads: &Threads, recent_latency: &Recent) -> anyhow::Result<()> {
    loop {
        for signal in signals.pending() {
            match signal {
                SIGHUP => warn!("SIGHUP: this release re-reads nothing; use shuntctl, or restart"),
                SIGINT | SIGTERM => {
                    info!("stopping");
                    return Ok(());
                }
                other => warn!("{}: this signal has no meaning here", signal_name(other).unwrap_or("A signal")),
            }
        }
        if threads.lost() {
            bail!(
                "A worker, the slow path or the tables' thread has ended by itself: stopping, rather than being half a director"
            );
        }
        recent_latency.tick(Instant::now());
        thread::sleep(TICK);
    }
}
