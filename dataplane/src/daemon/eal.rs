//! DPDK's start, and the pools of packet buffers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use ctl::answer::PacketBuffers;
use tracing::{info, warn};

use crate::config::{Config, Port};
use crate::daemon::memory::{self, Need, Pool};
use crate::dpdk::{Device, Eal, EalOptions, Memory, Mempool, MempoolError};
use crate::slow::buffers::{self, Pools};

/// DPDK, and what it has to work with.
pub(super) struct Dpdk {
    pub(super) eal: Arc<Eal>,
    pub(super) buffers: Buffers,
    /// Whether packet memory is in hugepages.
    pub(super) hugepages: bool,
    _folder: RuntimeFolder,
}

/// The pools of packet buffers.
pub(super) struct Buffers(Vec<(Pool, Arc<Mempool>)>);

/// Starts DPDK on the slow path's core, which this thread is pinned to then, and makes the pools. The ports' MTUs say how large a buffer is.
pub(super) fn start(config: &Config, mtus: &[Option<u16>]) -> anyhow::Result<Dpdk> {
    let director = &config.director;
    let (workers, configured) = (director.workers.len(), director.mbufs);
    let needs = needs(config, mtus);
    let huge = memory::pools(&needs, workers, configured);
    let plain = memory::pools(&memory::anywhere(&needs), workers, configured);
    let (memory, advice) = memory::choose_for(director.hugepages, &huge, &plain, &director.eal_args)?;
    advice.iter().for_each(|advice| warn!("{advice}"));
    let pools = if memory == Memory::Huge { huge } else { plain };
    let mbufs: u32 = pools.iter().map(|pool| pool.mbufs).sum();
    match memory {
        Memory::Huge => info!("packet memory: hugepages, {mbufs} buffers"),
        Memory::Plain { mib } => {
            info!("packet memory: {mib} MiB of plain pages, {mbufs} buffers; hugepages are faster");
        }
    }
    let pci = config.ports.iter().filter_map(|port| match &port.device {
        Device::Pci(address) => Some(address.clone()),
        _ => None,
    });
    let options = EalOptions {
        main_lcore: director.slow_path,
        memory,
        file_prefix: file_prefix(&director.socket),
        pci: pci.collect(),
        extra: director.eal_args.clone(),
    };
    let eal = Eal::init(&options)?;
    let folder = RuntimeFolder(eal.runtime_folder());
    let buffers = Buffers::new(&eal, pools)?;
    Ok(Dpdk { eal, buffers, hugepages: memory == Memory::Huge, _folder: folder })
}

impl Buffers {
    fn new(eal: &Arc<Eal>, pools: Vec<Pool>) -> Result<Self, MempoolError> {
        let nodes: BTreeSet<u32> = pools.iter().filter_map(|pool| pool.node).collect();
        if nodes.len() > 1 {
            info!("the ports are on {} NUMA nodes: each node's have packet buffers of their own", nodes.len());
        }
        let made = pools.into_iter().enumerate().map(|(index, pool)| {
            let mempool = create(eal, &format!("shunt{index}"), &pool)?;
            Ok((pool, mempool))
        });
        made.collect::<Result<Vec<_>, _>>().map(Buffers)
    }

    /// The pool that a port receives into.
    pub(super) fn of(&self, port: usize) -> &Arc<Mempool> {
        let pool = self.0.iter().find(|(pool, _)| pool.ports.contains(&port));
        pool.map(|(_, mempool)| mempool).expect("each port is one of a pool's")
    }

    /// The pool for the frames that the director itself makes: the one that takes the largest.
    pub(super) fn own(&self) -> &Arc<Mempool> {
        let largest = self.0.iter().rev().max_by_key(|(_, mempool)| mempool.room());
        largest.map(|(_, mempool)| mempool).expect("there is a port, and so a pool")
    }

    /// The same of each pool, for the slow path's watch.
    pub(super) fn each(&self, ports: &[Port]) -> Pools {
        let named = |pool: &Pool| -> Vec<String> { pool.ports.iter().map(|&port| ports[port].name.clone()).collect() };
        let pools: Vec<(Vec<String>, Weak<Mempool>)> =
            self.0.iter().map(|(pool, mempool)| (named(pool), Arc::downgrade(mempool))).collect();
        Box::new(move || {
            let alive = pools.iter().filter_map(|(ports, pool)| Some((ports.clone(), pool.upgrade()?)));
            alive.map(|(ports, pool)| buffers::Pool { ports, buffers: figures_of(&pool) }).collect()
        })
    }

    /// How many there are and are in use, all pools together. As with ports: the API's threads must not be what keeps the memory.
    pub(super) fn figures(&self) -> Box<dyn Fn() -> PacketBuffers + Send + Sync> {
        let pools: Vec<Weak<Mempool>> = self.0.iter().map(|(_, mempool)| Arc::downgrade(mempool)).collect();
        Box::new(move || {
            let alive = pools.iter().filter_map(Weak::upgrade);
            alive.map(|pool| figures_of(&pool)).fold(PacketBuffers::default(), |sum, pool| PacketBuffers {
                in_use: sum.in_use + pool.in_use,
                total: sum.total + pool.total,
            })
        })
    }
}

fn figures_of(pool: &Mempool) -> PacketBuffers {
    PacketBuffers { in_use: pool.in_use(), total: pool.size() }
}

/// On the pool's node, or elsewhere if there is not enough memory: a director that is somewhat slower is better than none.
fn create(eal: &Arc<Eal>, name: &str, pool: &Pool) -> Result<Arc<Mempool>, MempoolError> {
    let made = Mempool::create(eal, name, pool.mbufs, pool.layout, pool.node);
    match (&made, pool.node) {
        (Err(MempoolError::Create { mib, .. }), Some(node)) => {
            warn!(
                "NUMA node {node}, where some ports are, has no {mib} MiB of free hugepages: packet buffers are elsewhere, which is \
                 slower; reserve hugepages on that node (/sys/devices/system/node/node{node}/hugepages)"
            );
            Mempool::create(eal, name, pool.mbufs, pool.layout, None)
        }
        _ => made,
    }
}

/// What the ports need of their buffers.
fn needs(config: &Config, mtus: &[Option<u16>]) -> Vec<Need> {
    let need = |(device, &mtu): (&Device, &Option<u16>)| Need {
        node: device.node(),
        xdp: device.may_take_xdp(mtu),
        room: mtu.map_or(0, |mtu| device.buffer(mtu)),
    };
    config.ports.iter().map(|port| &port.device).zip(mtus).map(need).collect()
}

/// As no two daemons have one socket, no two have one prefix; and after a kill -9, the next one finds the same.
fn file_prefix(socket: &Path) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let path: String = socket.display().to_string().chars().map(legal).collect();
    // EAL bounds the length of its paths.
    let tail = path.len().saturating_sub(40);
    format!("shunt{}", &path[tail..])
}

/// EAL's folder, which it does not remove by itself. If there is something in it, it stays.
struct RuntimeFolder(PathBuf);

impl Drop for RuntimeFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
