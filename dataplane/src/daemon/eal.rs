//! DPDK's start, and the pools of packet buffers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use ctl::answer::PacketBuffers;
use tracing::{info, warn};

use crate::config::{Config, Port};
use crate::daemon::memory::{self, Pool};
use crate::dpdk::{Device, Eal, EalOptions, MOST_ROOM, Memory, Mempool, MempoolError, ROOM};
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
    let nodes: Vec<Option<u32>> = config.ports.iter().map(|port| port.device.node()).collect();
    let mut pools = memory::pools(&nodes, director.workers.len(), director.mbufs);
    let (mbufs, room) = (pools.iter().map(|pool| pool.mbufs).sum(), buffer_room(config, mtus));
    let (memory, advice) = memory::choose(director.hugepages, mbufs, room, &director.eal_args)?;
    advice.iter().for_each(|advice| warn!("{advice}"));
    match memory {
        Memory::Huge => info!("packet memory: hugepages, {mbufs} buffers"),
        Memory::Plain { mib } => {
            info!("packet memory: {mib} MiB of plain pages, {mbufs} buffers; hugepages are faster");
            pools = memory::in_one(&pools);
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
    let buffers = Buffers::new(&eal, pools, room)?;
    Ok(Dpdk { eal, buffers, hugepages: memory == Memory::Huge, _folder: folder })
}

impl Buffers {
    fn new(eal: &Arc<Eal>, pools: Vec<Pool>, room: u16) -> Result<Self, MempoolError> {
        if pools.len() > 1 {
            info!("the ports are on {} NUMA nodes: each node's have packet buffers of their own", pools.len());
        }
        let made = pools.into_iter().map(|pool| Ok((pool.clone(), create(eal, &pool, room)?)));
        made.collect::<Result<Vec<_>, _>>().map(Buffers)
    }

    /// The pool that a port receives into.
    pub(super) fn of(&self, port: usize) -> &Arc<Mempool> {
        let pool = self.0.iter().find(|(pool, _)| pool.ports.contains(&port));
        pool.map(|(_, mempool)| mempool).expect("each port is one of a pool's")
    }

    /// The pool for the frames that the director itself makes.
    pub(super) fn own(&self) -> &Arc<Mempool> {
        self.of(0)
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
fn create(eal: &Arc<Eal>, pool: &Pool, room: u16) -> Result<Arc<Mempool>, MempoolError> {
    let name = pool.node.map_or("shunt".into(), |node| format!("shunt{node}"));
    let made = Mempool::create(eal, &name, pool.mbufs, room, pool.node);
    match (&made, pool.node) {
        (Err(MempoolError::Create { mib, .. }), Some(node)) => {
            warn!(
                "NUMA node {node}, where some ports are, has no {mib} MiB of free hugepages: packet buffers are elsewhere, which is \
                 slower; reserve hugepages on that node (/sys/devices/system/node/node{node}/hugepages)"
            );
            Mempool::create(eal, &name, pool.mbufs, room, None)
        }
        _ => made,
    }
}

/// The room of a packet buffer, so that frames fit in that cannot be spread over several.
fn buffer_room(config: &Config, mtus: &[Option<u16>]) -> u16 {
    let needs = config.ports.iter().zip(mtus).map(|(port, mtu)| mtu.map_or(0, |mtu| port.device.buffer(mtu)));
    u16::try_from(needs.max().unwrap_or(0)).unwrap_or(MOST_ROOM).clamp(ROOM, MOST_ROOM)
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
