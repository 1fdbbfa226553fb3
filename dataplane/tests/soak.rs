//! Millions of frames go through workers with DPDK's real packet buffers. No frame causes a panic, each has one fate,
//! and in the end every buffer is back in its pool.
//!
//! `SOAK_FRAMES` sets their number (default 10,000,000), `SOAK_SEED` the seed.

use std::sync::Arc;

use dataplane::base::exit::DropReason;
use dataplane::dpdk::{Eal, EalOptions, Memory, Mempool, ROOM};
use dataplane::testing::choices::Choices;
use dataplane::testing::scene::Scene;
use dataplane::testing::traffic::Traffic;

const FRAMES: u64 = 10_000_000;
/// In a run of this many frames, each reason to drop a frame occurs.
const ALL_REASONS: u64 = 2_000_000;
/// The frames of a scene. Then a new scene begins, because not all removed backends of a scene come back.
const FRAMES_OF_A_SCENE: u64 = 50_000;
/// The frames that are received together, in one burst or two.
const BATCH: u64 = 48;
/// The frames of a flood of fragments: more than two workers hold.
const FLOOD: u64 = 600;
const BUFFERS: u32 = 4_095;

/// SplitMix64: a random sequence, which is the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]));
        bytes
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text}")))
}

/// Gives a scene this many frames, each of which fits into a buffer. Meanwhile time passes, and the services change.
fn play(scene: &mut Scene<Arc<Mempool>>, traffic: &Traffic, random: &mut Random, frames: u64) {
    let mut given = 0;
    while given < frames {
        let batch = BATCH.min(frames - given);
        let decisions: [u8; 8] = random.bytes();
        let [storm, time, change, finish, choke, flood, ..] = decisions;
        let mut bytes: [u8; 64] = random.bytes();
        for _ in 0..batch {
            // Sometimes the same frame again and again, as in a flood.
            if storm > 4 {
                bytes = random.bytes();
            }
            let mut choices = Choices::new(&bytes);
            let (worker, port) = (choices.below(2), choices.below(2));
            let mut frame = traffic.frame(&mut choices);
            frame.truncate(usize::from(ROOM));
            scene.receive(worker, port, frame);
        }
        given += batch;
        // Now and then a flood of fragments, more than can be held.
        if flood == 0 {
            let strays = FLOOD.min(frames - given);
            (0..strays)
                .for_each(|stray| scene.receive(0, 0, Traffic::stray_fragment(u32::try_from(stray).unwrap_or(0))));
            given += strays;
        }
        if choke < 4 {
            scene.choke(usize::from(choke & 1), 0, 3);
        }
        scene.settle();
        if time < 16 {
            scene.pass(u64::from(time) * 4);
        }
        if change < 4 {
            scene.change(&mut Choices::new(&random.bytes::<8>()));
        }
        if finish < 4 {
            scene.finish();
        }
    }
    scene.finish();
}

#[test]
fn no_frame_panics_and_no_buffer_is_lost() {
    let (frames, seed) = (number("SOAK_FRAMES", FRAMES), number("SOAK_SEED", 1));
    let extra = std::env::var("SOAK_EAL_ARGS").unwrap_or_default();
    let options = EalOptions {
        main_lcore: 0,
        memory: Memory::Plain { mib: 64 },
        file_prefix: format!("shunt-soak-{}", std::process::id()),
        pci: Vec::new(),
        extra: extra.split_whitespace().map(String::from).collect(),
    };
    let eal = Eal::init(&options).expect("DPDK starts without hugepages and without devices");
    let folder = eal.runtime_folder();
    let pool = Mempool::create(&eal, "soak", BUFFERS, ROOM, None).expect("64 MiB are enough");
    assert_eq!((pool.in_use(), pool.size()), (0, BUFFERS));

    let (traffic, mut random) = (Traffic::default(), Random(seed));
    let (mut forwarded, mut punted, mut own_sent, mut changes) = (0, 0, 0, 0);
    let mut dropped = vec![0; DropReason::ALL.len()];
    let mut left = frames;
    while left > 0 {
        let count = left.min(FRAMES_OF_A_SCENE);
        left -= count;
        let mut scene = Scene::new(pool.clone());
        play(&mut scene, &traffic, &mut random, count);
        let tally = scene.tally();
        assert_eq!((tally.received, pool.in_use()), (count, 0), "seed {seed}, {left} frames before the end");
        forwarded += tally.forwarded;
        punted += tally.punted;
        own_sent += tally.own_sent;
        changes += tally.changes;
        dropped.iter_mut().zip(DropReason::ALL).for_each(|(sum, &reason)| *sum += scene.dropped(reason));
        drop(scene);
        assert_eq!(pool.in_use(), 0);
    }
    println!(
        "{frames} frames, seed {seed}: {forwarded} forwarded, {punted} punted, {own_sent} answered, {changes} changes"
    );
    // These reasons cannot occur. List queues do not check checksums. All buffers have headroom and hold a whole frame.
    // And the workers run in turn, so the rings between them do not fill.
    for (reason, count) in DropReason::ALL.iter().zip(&dropped) {
        println!("{count:>9} {}", reason.name());
        let unreachable = matches!(
            reason,
            DropReason::BadIpChecksum
                | DropReason::FragmentPassFull
                | DropReason::HeadersSplit
                | DropReason::NoHeadroom
        );
        assert!(*count > 0 || unreachable || frames < ALL_REASONS, "{reason:?} never happened");
    }
    assert!(forwarded > frames / 4 && punted > frames / 100 && own_sent > frames / 1_000 || frames < ALL_REASONS);
    drop((pool, eal));
    // EAL does not remove its folder.
    let _ = std::fs::remove_dir(folder);
}
