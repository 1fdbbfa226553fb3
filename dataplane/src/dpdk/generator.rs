//! Frames of any number of flows, made inside the process: for benches.
//!
//! A receive callback writes a frame of the next flow into each buffer that a queue hands out, in an order without
//! locality. Flow `n` is that of the client `n` addresses behind the first, modulo 2^24.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dpdk_sys::{SHUNT_GENERATOR_FRAME, shunt_generator};

use crate::base::ethertype::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::dpdk::error::DpdkError;
use crate::dpdk::queue::QueuePair;

/// The most flows that are told apart.
pub const MAX_FLOWS: u64 = 48_000 << 24;

/// Where an IPv4 frame's fields begin.
const V4: Offsets = Offsets { source: 26, destination: 30, port: 34, checksum: 24 };
/// The same of IPv6; of addresses, the last four bytes.
const V6: Offsets = Offsets { source: 34, destination: 50, port: 54, checksum: 0 };

struct Offsets {
    source: u16,
    destination: u16,
    port: u16,
    checksum: u16,
}

/// The controls of a queue's generator.
#[derive(Debug)]
pub struct Generator {
    flows: &'static AtomicU64,
    step: &'static AtomicU64,
}

impl Generator {
    /// Has a queue receive copies of a frame from as many clients as there are flows, to as many destinations behind its own.
    /// The device's frames must have the frame's length. At first, they are left as they are.
    ///
    /// # Panics
    /// If the frame is neither IPv4 nor IPv6, or longer than [`SHUNT_GENERATOR_FRAME`] bytes, or shorter than its headers; or if
    /// the port's buffers are shorter than that.
    pub fn install(queue: &QueuePair, frame: &[u8], destinations: u16) -> Result<Generator, DpdkError> {
        // So many bytes are written into a buffer, whatever the frame's length.
        assert!(u32::from(queue.room()) >= SHUNT_GENERATOR_FRAME, "the port's buffers are too small for the generator");
        let offsets = match u16::from_be_bytes([frame[12], frame[13]]) {
            ETHERTYPE_IPV4 => V4,
            ETHERTYPE_IPV6 => V6,
            _ => panic!("the generator's frames are IPv4 or IPv6"),
        };
        let word = |at: u16| {
            let bytes = frame[usize::from(at)..].first_chunk().expect("a frame has addresses");
            u32::from_be_bytes(*bytes)
        };
        let mut template = [0; SHUNT_GENERATOR_FRAME as usize];
        template[..frame.len()].copy_from_slice(frame);
        let generator = Box::leak(Box::new(shunt_generator {
            frame: template,
            source_at: offsets.source,
            destination_at: offsets.destination,
            port_at: offsets.port,
            checksum_at: offsets.checksum,
            source: word(offsets.source),
            destination: word(offsets.destination),
            checksum: header_sum(frame),
            destinations: u32::from(destinations),
            flow: 0,
            flows: 0,
            step: 0,
        }));
        let raw = std::ptr::from_mut(generator);
        // SAFETY: the port is open while `queue` is borrowed; the generator was leaked above, so that it stays where it is; of
        // its fields, only the callback writes `flow`, and only atomics reach the two below.
        DpdkError::check(unsafe { dpdk_sys::shunt_generator_install(queue.port_number(), queue.number(), raw) })?;
        // SAFETY: both are aligned, live for ever, and from here on are reached as atomics only.
        let (flows, step) =
            unsafe { (AtomicU64::from_ptr(&raw mut (*raw).flows), AtomicU64::from_ptr(&raw mut (*raw).step)) };
        Ok(Generator { flows, step })
    }

    /// From the next burst on, frames are of so many flows, each as often as any other; 0: they are left as they are.
    pub fn set_flows(&self, flows: u64) {
        let flows = flows.min(MAX_FLOWS);
        self.step.store(step(flows), Relaxed);
        self.flows.store(flows, Relaxed);
    }
}

/// About the golden section of the flows, and coprime to their number: so the walk visits all before it comes back.
fn step(flows: u64) -> u64 {
    let golden = u64::try_from(u128::from(flows) * 618_034 / 1_000_000).expect("less than all");
    (golden..=flows).find(|&step| step > 0 && coprime(step, flows)).unwrap_or(0)
}

fn coprime(a: u64, b: u64) -> bool {
    let (mut a, mut b) = (a, b);
    // Bound: Euclid's algorithm.
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// The sum of an IPv4 header's words, without checksum and addresses.
fn header_sum(frame: &[u8]) -> u32 {
    let words = frame[14..24].chunks_exact(2);
    words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_visits_all_flows_before_it_comes_back() {
        for flows in [1, 2, 3, 1_000, 1_024, 65_537, 100_000] {
            let (mut seen, mut flow, step) = (vec![false; usize::try_from(flows).unwrap()], 0, step(flows));
            for _ in 0..flows {
                flow = (flow + step) % flows;
                assert!(!std::mem::replace(&mut seen[usize::try_from(flow).unwrap()], true), "{flows} by {step}");
            }
        }
        assert!(coprime(step(10_000_000), 10_000_000) && coprime(step(MAX_FLOWS), MAX_FLOWS));
    }

    #[test]
    fn the_header_sum_leaves_out_what_the_generator_writes() {
        let frame = crate::testing::frame::eth().ipv4("10.0.0.0", "192.168.100.1").tcp(1_024, 80).ack();
        let word = |at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let all = header_sum(&frame) + word(24) + [26, 28, 30, 32].map(word).iter().sum::<u32>();
        assert_eq!((all & 0xffff) + (all >> 16), 0xffff, "RFC 1071: a header with its checksum sums up to minus zero");
    }
}
