//! The time that frames take through a director and back, over shared memory (memif). This is the generator and the
//! clock of `perf/latency`, which says how to read the figures.
//!
//! It is the server of a memif whose client is the director. It waits until frames come back, finds the rate that the
//! path carries (`--saturate`), and sends evenly spaced frames at each of `--rates`. A frame contains the time at which
//! it was due, by the TSC, and not the time at which it was sent. So a generator that had to wait, for its core or for
//! room, does not make the path look faster than it is. The result is one line of JSON; messages go to stderr. At the
//! end, it waits until its standard input is closed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use ctl::Mac;
use dataplane::base::packet::{BURST, Burst, Packet, PacketIo};
use dataplane::config::Hugepages;
use dataplane::daemon::memory;
use dataplane::dpdk::{
    Device, Eal, EalOptions, Mbuf, Mempool, Port, PortSettings, QueuePair, ROOM, tsc, tsc_hz, version,
};
use dataplane::testing::frame::eth;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The daemon's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MBUFS: u32 = 8_191;
/// The nanoseconds of a second.
const NANOSECONDS: u128 = 1_000_000_000;
/// A frame that is sent this much after it was due is late: the generator was slow, or had no room.
const LATE: Duration = Duration::from_micros(10);
/// Frames on their way while the path is filled.
const WINDOW: u64 = 512;
/// The most frames on their way in a trial: they fit into one of memif's rings (1,024). With more, the director would
/// have to drop frames whenever the generator loses its core and does not receive in time.
const ROOM_ON_THE_WAY: u64 = 960;
/// A frame that has not come back for this long is lost, and no longer counts as on its way.
const LOST: Duration = Duration::from_millis(50);
/// The time that the last frames have to come back.
const DRAIN: Duration = Duration::from_millis(200);
/// The part of a trial, at its beginning, that is not measured.
const WARM_UP: u64 = 5;
/// A trial is also evaluated in pieces. Most pieces are free of the disturbances that happen now and then on a shared
/// machine.
const PIECE: Duration = Duration::from_millis(50);
/// A longer time counts as this.
const LONGEST: Duration = Duration::from_secs(10);

/// Offsets in a frame: Ethernet, IPv4, UDP, and 12 bytes of ours.
const SOURCE_PORT: usize = 34;
const UDP_CHECKSUM: usize = 40;
const STAMP: usize = 42;
const TRIAL: usize = 50;
const END: usize = 54;
/// The length of a frame: 64 bytes on the wire, without 4 bytes of checksum.
const FRAME: usize = 60;
/// The trial of frames that are not measured.
const NOTHING: u32 = 0;

/// Sends frames through a director at the other end of a memif, and measures the time that they take.
#[derive(Parser)]
struct Arguments {
    /// The socket of the memif. It is created, and removed at the end.
    #[arg(long)]
    socket: PathBuf,
    /// The core to send and receive on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The director's MAC address.
    #[arg(long, default_value = "02:00:00:00:aa:00")]
    to: Mac,
    /// The VIP; frames are UDP to port 80.
    #[arg(long, default_value = "192.168.100.1")]
    vip: String,
    /// The number of flows.
    #[arg(long, default_value_t = 1_024)]
    flows: u16,
    /// First find the number of frames a second that the path carries.
    #[arg(long)]
    saturate: bool,
    /// The rates, in frames a second, for one trial each.
    #[arg(long, value_delimiter = ',')]
    rates: Vec<u64>,
    /// The length of each trial.
    #[arg(long, default_value_t = 2_000)]
    milliseconds: u64,
    /// The time that the director may take until frames come back.
    #[arg(long, default_value_t = 60)]
    patience_seconds: u64,
    /// An argument that cargo gives to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The generator's end of the memif.
struct Generator {
    queue: QueuePair,
    pool: Arc<Mempool>,
    frame: Vec<u8>,
    flows: u16,
    /// The flow of the next frame.
    flow: u16,
    /// The frames that are to be sent.
    waiting: Burst<Mbuf>,
}

impl Generator {
    fn new(queue: QueuePair, pool: Arc<Mempool>, arguments: &Arguments) -> Self {
        let mut frame = eth().to(arguments.to).ipv4("10.0.0.1", &arguments.vip).udp(1_024, 80, &[0; FRAME - STAMP]);
        // The UDP checksum is 0, "none" (RFC 768), because the content changes from frame to frame.
        frame[UDP_CHECKSUM..STAMP].fill(0);
        Generator { queue, pool, frame, flows: arguments.flows, flow: 0, waiting: Burst::new() }
    }

    /// Queues the next frame. There must be room.
    #[inline]
    fn add(&mut self, stamp: u64, trial: u32) -> anyhow::Result<()> {
        self.flow = if self.flow + 1 < self.flows { self.flow + 1 } else { 0 };
        self.frame[SOURCE_PORT..SOURCE_PORT + 2].copy_from_slice(&(1_024 + self.flow).to_be_bytes());
        self.frame[STAMP..TRIAL].copy_from_slice(&stamp.to_be_bytes());
        self.frame[TRIAL..END].copy_from_slice(&trial.to_be_bytes());
        self.waiting
            .push(Mbuf::with_data(&self.pool, &self.frame).context("The generator has no packet buffers left")?);
        Ok(())
    }

    /// Sends the queued frames for which there is room.
    #[inline]
    fn send(&mut self) {
        if !self.waiting.is_empty() {
            self.queue.tx_burst(&mut self.waiting);
        }
    }

    /// Passes the stamp of each frame of this trial that has come back to `each`.
    #[inline]
    fn receive(&mut self, trial: u32, mut each: impl FnMut(u64)) {
        let mut burst = Burst::new();
        self.queue.rx_burst(&mut burst);
        for packet in &burst {
            let frame = packet.data();
            let ours = frame.len() == FRAME && frame[12..14] == [8, 0] && frame[36..38] == 80_u16.to_be_bytes();
            if ours && frame[TRIAL..END] == trial.to_be_bytes() {
                each(u64::from_be_bytes(frame[STAMP..TRIAL].try_into().expect("8 bytes")));
            }
        }
    }

    /// Sends a frame now and then until one comes back.
    fn wait_for_director(&mut self, patience: Duration) -> anyhow::Result<()> {
        let (start, mut back) = (tsc(), false);
        while !back {
            ensure!(since(start) < patience, "No frame has come back within {} s", patience.as_secs());
            if self.waiting.is_empty() {
                self.add(0, NOTHING)?;
            }
            self.send();
            std::thread::sleep(Duration::from_millis(20));
            self.receive(NOTHING, |_| back = true);
        }
        self.come_to_rest();
        Ok(())
    }

    /// Waits until no frame is on its way any more.
    fn come_to_rest(&mut self) {
        let start = tsc();
        while since(start) < DRAIN {
            self.send();
            self.receive(NOTHING, |_| ());
        }
    }

    /// The rate of frames that come back, in frames a second, with a bounded number on their way. Taken from the median
    /// piece.
    fn saturate(&mut self, milliseconds: u64, trial: u32) -> anyhow::Result<u64> {
        let start = tsc();
        let end = start + cycles(Duration::from_millis(milliseconds));
        let mut times = Times::new(start + (end - start) / WARM_UP, end)?;
        let mut sent = 0;
        loop {
            let now = tsc();
            if now >= end {
                break;
            }
            while !self.waiting.is_full() && sent - times.received < WINDOW {
                self.add(now, trial)?;
                sent += 1;
            }
            self.send();
            self.receive_timed(trial, &mut times);
        }
        self.come_to_rest();
        let rate = scaled(times.median(Histogram::len)?, NANOSECONDS, PIECE.as_nanos());
        ensure!(rate >= 1_000, "The path carries {rate} frames a second only");
        Ok(rate)
    }

    /// Sends frames at a rate, and returns the figures.
    fn trial(&mut self, rate: u64, milliseconds: u64, trial: u32) -> anyhow::Result<Value> {
        let total = rate * milliseconds / 1_000;
        let warm_up = total / WARM_UP;
        let (late, lost, patience) = (cycles(LATE), cycles(LOST), cycles(5 * Duration::from_millis(milliseconds)));
        // TSC cycles between two frames, times 2^32.
        let step = (u128::from(tsc_hz()) << 32) / u128::from(rate);
        let start = tsc();
        let due = |number: u64| start + scaled(number, step, 1 << 32);
        let mut times = Times::new(due(warm_up), due(total))?;
        // `gone` counts frames that are no longer on their way: they came back, or are lost.
        let (mut added, mut late_frames, mut gone, mut last) = (0, 0_u64, 0, start);
        let mut next = due(0);
        while added < total || !self.waiting.is_empty() {
            let now = tsc();
            ensure!(now - start < patience, "The path does not carry {rate} frames a second");
            let room = ROOM_ON_THE_WAY.saturating_sub(added.saturating_sub(gone)).min(total - added);
            for _ in 0..room.min(self.waiting.remaining_capacity() as u64) {
                if next > now {
                    break;
                }
                self.add(next, trial)?;
                late_frames += u64::from(added >= warm_up && now - next > late);
                added += 1;
                next = due(added);
            }
            self.send();
            let before = times.received;
            self.receive_timed(trial, &mut times);
            if times.received > before {
                gone += times.received - before;
                last = now;
            } else if room == 0 && now - last > lost {
                (gone, last) = (added, now);
            }
        }
        let sending = since(start);
        let (rest, measured) = (tsc(), total - warm_up);
        while times.measured < measured && since(rest) < DRAIN {
            self.receive_timed(trial, &mut times);
        }
        let all = times.all()?;
        Ok(json!({
            "rate": rate,
            "sent_rate": scaled(total, NANOSECONDS, sending.as_nanos().max(1)),
            "sent": measured,
            "lost": measured - times.measured,
            "late": late_frames,
            "all": figures(&all),
            "pieces": times.pieces.iter().filter(|piece| !piece.is_empty()).map(figures).collect::<Vec<_>>(),
        }))
    }

    #[inline]
    fn receive_timed(&mut self, trial: u32, times: &mut Times) {
        let mut now = 0;
        self.receive(trial, |stamp| {
            // The clock is read once for a burst, after its frames have been received.
            if now == 0 {
                now = tsc();
            }
            times.add(stamp, now);
        });
    }
}

/// The times that frames took, in TSC cycles.
struct Times {
    /// The stamp of the first frame that is measured.
    from: u64,
    /// The frames that have come back: all, and those that are measured.
    received: u64,
    measured: u64,
    /// The pieces, by the time at which frames were due. All are made at the start, because making one takes time.
    pieces: Vec<Histogram<u64>>,
    /// The piece of the last frame, and the stamp at which it ends.
    piece: usize,
    piece_ends: u64,
}

impl Times {
    /// For frames with stamps from `from` to before `end`.
    fn new(from: u64, end: u64) -> anyhow::Result<Self> {
        let piece = Histogram::new_with_bounds(1, cycles(LONGEST), 3)?;
        let count = usize::try_from((end - from).div_ceil(cycles(PIECE)))?.max(1);
        Ok(Times {
            from,
            received: 0,
            measured: 0,
            pieces: vec![piece; count],
            piece: 0,
            piece_ends: from + cycles(PIECE),
        })
    }

    #[inline]
    fn add(&mut self, stamp: u64, now: u64) {
        self.received += 1;
        if stamp < self.from {
            return;
        }
        self.measured += 1;
        while stamp >= self.piece_ends && self.piece + 1 < self.pieces.len() {
            self.piece += 1;
            self.piece_ends += cycles(PIECE);
        }
        self.pieces[self.piece].saturating_record(now.saturating_sub(stamp).max(1));
    }

    fn all(&self) -> anyhow::Result<Histogram<u64>> {
        let mut all = self.pieces[0].clone();
        self.pieces[1..].iter().try_for_each(|piece| all.add(piece))?;
        Ok(all)
    }

    /// The median over all complete pieces.
    fn median(&self, of: impl Fn(&Histogram<u64>) -> u64) -> anyhow::Result<u64> {
        let whole = self.pieces.len().saturating_sub(1);
        let mut values: Vec<u64> = self.pieces[..whole].iter().map(of).collect();
        values.sort_unstable();
        values.get(whole / 2).copied().context("The time is too short: --milliseconds 200 or more")
    }
}

fn figures(times: &Histogram<u64>) -> Value {
    json!({
        "p50_ns": nanoseconds(times.value_at_quantile(0.5)),
        "p99_ns": nanoseconds(times.value_at_quantile(0.99)),
        "p999_ns": nanoseconds(times.value_at_quantile(0.999)),
        "max_ns": nanoseconds(times.max()),
    })
}

#[inline]
fn scaled(value: u64, by: u128, over: u128) -> u64 {
    u64::try_from(u128::from(value) * by / over).expect("times of minutes, rates of millions")
}

fn cycles(time: Duration) -> u64 {
    scaled(tsc_hz(), time.as_nanos(), NANOSECONDS)
}

fn nanoseconds(cycles: u64) -> u64 {
    scaled(cycles, NANOSECONDS, tsc_hz().into())
}

fn since(start: u64) -> Duration {
    Duration::from_nanos(nanoseconds(tsc() - start))
}

/// Makes the generator's end of the memif, which listens. Also returns the port and EAL, which must live as long.
fn open(arguments: &Arguments) -> anyhow::Result<(Generator, Port, Arc<Eal>)> {
    ensure!((1..=60_000).contains(&arguments.flows), "--flows is 1 to 60000");
    ensure!(arguments.milliseconds >= 10, "--milliseconds is at least 10");
    ensure!(arguments.rates.iter().all(|&rate| rate >= 1_000), "--rates are at least 1000");
    let eal = Eal::init(&EalOptions {
        main_lcore: arguments.core,
        memory: memory::choose(Hugepages::Off, MBUFS, ROOM.into(), &[])?.0,
        file_prefix: format!("shunt-latency-{}", std::process::id()),
        pci: Vec::new(),
        extra: Vec::new(),
    })?;
    let pool = Mempool::create(&eal, "latency", MBUFS, ROOM, None)?;
    let socket = arguments.socket.display();
    let device = Device::Vdev(format!("net_memif0,role=server,id=0,socket={socket},socket-abstract=no"));
    let settings = PortSettings { index: 0, device, queues: 1, vlan_strip: false, mtu: None };
    let (port, mut queues) = Port::open(&eal, &pool, &settings)?;
    let queue = queues.pop().context("A port with one queue pair has one")?;
    Ok((Generator::new(queue, pool, arguments), port, eal))
}

fn run(arguments: &Arguments, generator: &mut Generator) -> anyhow::Result<Value> {
    generator.wait_for_director(Duration::from_secs(arguments.patience_seconds))?;
    let mut numbers = NOTHING + 1..;
    let mut number = || numbers.next().expect("few trials");
    let carried = match arguments.saturate {
        true => Some(generator.saturate(arguments.milliseconds, number())?),
        false => None,
    };
    let mut trials = Vec::new();
    for &rate in &arguments.rates {
        trials.push(generator.trial(rate, arguments.milliseconds, number())?);
        generator.come_to_rest();
    }
    Ok(json!({ "dpdk": version(), "tsc_hz": tsc_hz(), "burst": BURST, "carried": carried, "trials": trials }))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (mut generator, _port, eal) = open(&arguments)?;
    let outcome = run(&arguments, &mut generator);
    match &outcome {
        Ok(told) => println!("{told}"),
        Err(problem) => eprintln!("Error: {problem:#}"),
    }
    // When the other end of a memif goes, DPDK's driver removes the rings, even if a thread still polls them. So the
    // director stops first, while no thread polls here. Then the caller closes the standard input.
    if outcome.is_ok() {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    }
    let _ = std::fs::remove_dir(eal.runtime_folder());
    let _ = std::fs::remove_file(&arguments.socket);
    // The port is not closed, because the driver would free memory that its interrupt thread may still read.
    std::process::exit(i32::from(outcome.is_err()))
}
