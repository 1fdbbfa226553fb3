//! Whether a Linux interface can be an AF_XDP port: found out before DPDK's driver touches it.
//!
//! Where that driver fails (DPDK 22.11), the packet buffers that it has taken are lost, 2,048 of a queue; and it takes the XDP program off
//! the interface, whosever it is. Where it does not fail, it may still be wrong: it takes the queues that it is told of, and leaves the
//! frames of all others to the kernel.

use std::ffi::{CString, c_int};
use std::io::{Error, ErrorKind};
use std::time::{Duration, Instant};

use dpdk_sys::{
    SHUNT_XDP_ATTACH, SHUNT_XDP_BIND, SHUNT_XDP_MEMORY, SHUNT_XDP_PROGRAM, SHUNT_XDP_SOCKET, shunt_channels,
    shunt_channels_of, shunt_hashed_queues, shunt_xdp_program, shunt_xdp_try, shunt_xdp_try_attach,
};

/// The XDP programs of libxdp, which the driver uses: it shares them, and those that a killed process has left are used again.
const LIBXDP: [&str; 3] = ["xdp_dispatcher", "xsk_def_prog", "xsk_def_xdp_prog"];

/// A process that was killed has its queues for a moment longer.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

/// Why an interface cannot be an AF_XDP port.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// Flows would come to queues that no worker reads.
    #[error(
        "{interface} has {queues} receive queues for {workers} {}, and AF_XDP would lose the flows of the others: {mend}",
        plural(*workers, "worker")
    )]
    MoreQueues {
        /// The interface.
        interface: String,
        /// Its receive queues that flows come to.
        queues: u32,
        /// The workers.
        workers: u32,
        /// What to do.
        mend: String,
    },
    /// Workers would have no queue.
    #[error(
        "{interface} has {queues} receive {} for {workers} workers: {mend}use fewer workers, or set the port's driver to \"af_packet\"",
        plural(*queues, "queue")
    )]
    FewerQueues {
        /// The interface.
        interface: String,
        /// Its receive queues.
        queues: u32,
        /// The workers.
        workers: u32,
        /// The command for more queues, if there can be more.
        mend: String,
    },
    /// Workers would have no queue, as DPDK sees it.
    #[error(
        "DPDK's AF_XDP driver takes several queues as combined channels only, which {interface} does not have (`ethtool -l {interface}`): use \
         one worker, or set the port's driver to \"af_packet\""
    )]
    NotCombined {
        /// The interface.
        interface: String,
    },
    /// The interface is in use.
    #[error(
        "{interface} has another XDP program already, {name} (id {id}): take it off (`ip link set dev {interface} xdp off`), or set the port's \
         driver to \"af_packet\""
    )]
    Program {
        /// The interface.
        interface: String,
        /// The program's name.
        name: String,
        /// The program's number.
        id: u32,
    },
    /// The kernel says no.
    #[error("{interface}: {}", advice(*step))]
    Refused {
        /// The interface.
        interface: String,
        /// What was tried.
        step: u32,
        /// What the kernel says.
        source: Error,
    },
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 { noun.into() } else { format!("{noun}s") }
}

fn advice(step: u32) -> &'static str {
    match step {
        SHUNT_XDP_SOCKET => {
            "there are no AF_XDP sockets for this process: it needs CAP_NET_RAW, and a kernel with CONFIG_XDP_SOCKETS"
        }
        SHUNT_XDP_MEMORY => "an AF_XDP socket gets no memory: see the limit of locked memory (LimitMEMLOCK=infinity)",
        SHUNT_XDP_BIND => "AF_XDP does not get a receive queue: does another program have it (`ss -fxdp`)?",
        SHUNT_XDP_PROGRAM => "no XDP program can be loaded: this process needs CAP_NET_ADMIN and CAP_SYS_ADMIN",
        SHUNT_XDP_ATTACH => {
            "its driver takes no XDP program: some do so only without LRO, GRO_HW or receive checksums (`ethtool -K`), veth only with as many \
             receive queues as the other end has transmit queues (`ethtool -l`)"
        }
        _ => "AF_XDP is not to be had",
    }
}

/// Whether an interface can be an AF_XDP port with a queue for each of so many workers. If it has no program, one is put on it for a moment.
pub(super) fn check(interface: &str, workers: u16) -> Result<(), XdpError> {
    let Queueing { channels, hashed } = Queueing::of(interface);
    enough_and_not_more(interface, channels, hashed, workers.into())?;
    // Who calls this has looked for the interface.
    let index = nix::net::if_::if_nametoindex(interface).unwrap_or(0);
    let has_program = program(interface, index)?;
    (0..workers).try_for_each(|queue| try_queue(interface, index, queue))?;
    if !has_program {
        // SAFETY: no conditions.
        let step = unsafe { shunt_xdp_try_attach(index) };
        refused(interface, step, Error::last_os_error())?;
    }
    Ok(())
}

fn refused(interface: &str, step: c_int, source: Error) -> Result<(), XdpError> {
    if step == 0 {
        return Ok(());
    }
    Err(XdpError::Refused { interface: interface.into(), step: step.cast_unsigned(), source })
}

/// Why an AF_XDP port loses flows, or has workers without any: the interface has more or fewer queues than workers by now.
pub(super) fn lost_flows(interface: &str, workers: u16) -> Option<XdpError> {
    let Queueing { channels, hashed } = Queueing::of(interface);
    enough_and_not_more(interface, channels, hashed, workers.into()).err()
}

/// The same of an AF_XDP device that the operator has described by DPDK's arguments. With a program of the operator's own, or other queues
/// than the first, it is the operator who knows.
pub(super) fn lost_flows_of_vdev(arguments: &str) -> Option<XdpError> {
    let value = |key| arguments.split(',').filter_map(|argument| argument.split_once('=')).find(|pair| pair.0 == key);
    if value("xdp_prog").or(value("start_queue")).is_some() {
        return None;
    }
    let (_, interface) = value("iface")?;
    let queues = value("queue_count").map_or(Some(1), |(_, count)| count.parse().ok())?;
    lost_flows(interface, queues).filter(|error| matches!(error, XdpError::MoreQueues { .. }))
}

/// How an interface spreads flows over receive queues.
struct Queueing {
    channels: Option<Channels>,
    /// How many receive queues the hash of flows reaches; 0: all, as far as is known.
    hashed: u32,
}

/// The receive queues of an interface.
#[derive(Debug, Clone, Copy, Default)]
struct Channels {
    /// All.
    receive: u32,
    /// Those that are combined with a transmit queue.
    combined: u32,
    /// The most that it can have of either kind; 0: that cannot be changed.
    most_receive: u32,
    most_combined: u32,
}

impl Queueing {
    fn of(interface: &str) -> Queueing {
        let Ok(name) = CString::new(interface) else { return Queueing { channels: None, hashed: 0 } };
        let mut told = shunt_channels::default();
        // SAFETY: the name is NUL-terminated; the structure is written whole where the answer is 0.
        let ethtool = (unsafe { shunt_channels_of(name.as_ptr(), &raw mut told) } == 0).then_some(Channels {
            receive: told.receive + told.combined,
            combined: told.combined,
            most_receive: told.most_receive,
            most_combined: told.most_combined,
        });
        let ethtool = ethtool.filter(|channels| channels.receive > 0);
        // SAFETY: the name is NUL-terminated.
        let hashed = unsafe { shunt_hashed_queues(name.as_ptr()) };
        let listed = || Some(Channels { receive: listed(interface)?, ..Channels::default() });
        Queueing { channels: ethtool.or_else(listed), hashed }
    }
}

/// The receive queues that sysfs lists; `None` where it is that of another network namespace.
fn listed(interface: &str) -> Option<u32> {
    let queues = std::fs::read_dir(format!("/sys/class/net/{interface}/queues")).ok()?;
    let receive = queues.flatten().filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-"));
    u32::try_from(receive.count()).ok().filter(|&count| count > 0)
}

fn enough_and_not_more(interface: &str, channels: Option<Channels>, hashed: u32, workers: u32) -> Result<(), XdpError> {
    let interface = interface.to_owned();
    let Some(Channels { receive, combined, most_receive, most_combined }) = channels else { return Ok(()) };
    let reached = if hashed == 0 { receive } else { receive.min(hashed) };
    if reached > workers {
        let mend = if combined > 0 {
            format!("`ethtool -L {interface} combined {workers}`, or as many workers")
        } else if most_receive > 0 {
            format!("`ethtool -L {interface} rx {workers} tx {workers}`")
        } else {
            "make it anew with fewer queues (`ip link add … numrxqueues`)".into()
        };
        let mend = format!("{mend}; or set the port's driver to \"af_packet\"");
        return Err(XdpError::MoreQueues { interface, queues: reached, workers, mend });
    }
    if workers > 1 && combined == 0 {
        return Err(XdpError::NotCombined { interface });
    }
    if combined < workers && workers > 1 {
        let can = most_combined >= workers;
        let mend = if can { format!("`ethtool -L {interface} combined {workers}`, ") } else { String::new() };
        return Err(XdpError::FewerQueues { interface, queues: combined, workers, mend });
    }
    Ok(())
}

/// Whether the interface has an XDP program. An error, if it is not libxdp's.
fn program(interface: &str, index: u32) -> Result<bool, XdpError> {
    let (mut id, mut name) = (0, [0; 16]);
    // SAFETY: both are written whole.
    if unsafe { shunt_xdp_program(index, &raw mut id, name.as_mut_ptr()) } != 0 || id == 0 {
        return Ok(false);
    }
    let name: String =
        name.iter().map(|&byte| byte.cast_unsigned()).take_while(|&byte| byte != 0).map(char::from).collect();
    // Without a name, libxdp finds out.
    if name.is_empty() || LIBXDP.contains(&&*name) {
        return Ok(true);
    }
    Err(XdpError::Program { interface: interface.into(), name, id })
}

fn try_queue(interface: &str, index: u32, queue: u16) -> Result<(), XdpError> {
    let begin = Instant::now();
    // Bound: PATIENCE.
    loop {
        // SAFETY: no conditions.
        let step = unsafe { shunt_xdp_try(index, queue.into()) };
        let source = Error::last_os_error();
        if step == 0 || source.kind() != ErrorKind::ResourceBusy || begin.elapsed() >= PATIENCE {
            return refused(interface, step, source);
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIC: Channels = Channels { receive: 4, combined: 4, most_receive: 0, most_combined: 8 };
    const VETH: Channels = Channels { receive: 1, combined: 0, most_receive: 2, most_combined: 0 };

    fn said(channels: Channels, hashed: u32, workers: u32) -> String {
        enough_and_not_more("eth1", Some(channels), hashed, workers)
            .map_or_else(|error| error.to_string(), |()| "good".into())
    }

    #[test]
    fn no_flow_may_come_to_a_queue_that_no_worker_reads() {
        for (channels, hashed, workers, expected) in [
            (NIC, 0, 4, "good"),
            (
                NIC,
                0,
                2,
                "eth1 has 4 receive queues for 2 workers, and AF_XDP would lose the flows of the others: `ethtool -L eth1 combined 2`",
            ),
            (NIC, 4, 1, "eth1 has 4 receive queues for 1 worker, and"),
            (NIC, 3, 1, "eth1 has 3 receive queues for 1 worker, and"),
            // `ethtool -X eth1 equal 2`
            (NIC, 2, 2, "good"),
            (NIC, 0, 6, "eth1 has 4 receive queues for 6 workers: `ethtool -L eth1 combined 6`, use fewer workers"),
            (NIC, 0, 9, "eth1 has 4 receive queues for 9 workers: use fewer workers"),
            (VETH, 0, 1, "good"),
            (
                VETH,
                0,
                2,
                "DPDK's AF_XDP driver takes several queues as combined channels only, which eth1 does not have",
            ),
            (
                Channels { receive: 2, ..VETH },
                0,
                1,
                "eth1 has 2 receive queues for 1 worker, and AF_XDP would lose the flows of the others: `ethtool -L eth1 rx 1 tx 1`",
            ),
            (Channels { receive: 2, ..VETH }, 0, 2, "DPDK's AF_XDP driver"),
            (
                Channels { receive: 3, ..Channels::default() },
                0,
                1,
                "eth1 has 3 receive queues for 1 worker, and AF_XDP would lose the flows of the others: make it anew",
            ),
            (Channels { receive: 1, ..Channels::default() }, 0, 1, "good"),
            // Some queues are for receiving only.
            (Channels { receive: 5, ..NIC }, 0, 4, "eth1 has 5 receive queues for 4 workers, and"),
        ] {
            assert!(
                said(channels, hashed, workers).starts_with(expected),
                "{channels:?} {hashed} {workers}: {}",
                said(channels, hashed, workers)
            );
        }
        assert!(enough_and_not_more("eth1", None, 0, 3).is_ok(), "what is not known is left to the driver");
        // The loopback interface has one queue.
        for (arguments, loses) in [
            ("net_af_xdp0,iface=lo,queue_count=0", true),
            ("net_af_xdp0,iface=lo,queue_count=1", false),
            ("net_af_xdp0,iface=lo", false),
            ("net_af_xdp0,iface=lo,queue_count=0,start_queue=0", false),
            ("net_af_xdp0,iface=lo,queue_count=0,xdp_prog=/x", false),
            ("net_af_xdp0,iface=no-such-0,queue_count=0", false),
            ("net_af_xdp0,queue_count=x", false),
        ] {
            assert_eq!(lost_flows_of_vdev(arguments).is_some(), loses, "{arguments}");
        }
    }

    #[test]
    fn the_loopback_interface_has_a_queue_and_no_program() {
        assert_eq!(Queueing::of("lo").channels.map(|channels| channels.receive), Some(1));
        assert!(Queueing::of("no-such-0").channels.is_none());
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        assert!(matches!(program("lo", lo), Ok(false)));
        assert!(matches!(program("lo", u32::MAX >> 1), Ok(false)), "who opens it finds out that it is gone");
        if !nix::unistd::geteuid().is_root() {
            println!("skipped in part: AF_XDP sockets need root");
            return;
        }
        match check("lo", 1).expect_err("its driver takes no program") {
            XdpError::Refused { step: SHUNT_XDP_ATTACH, .. } => {}
            XdpError::Refused { step: SHUNT_XDP_SOCKET, source, .. } => {
                println!("skipped in part: no AF_XDP ({source})")
            }
            error => panic!("{error}"),
        }
        let gone = try_queue("lo", u32::MAX >> 1, 0).unwrap_err();
        assert!(matches!(gone, XdpError::Refused { step: SHUNT_XDP_BIND | SHUNT_XDP_SOCKET, .. }), "{gone}");
    }
}
