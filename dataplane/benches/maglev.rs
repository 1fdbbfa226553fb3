//! The time to build a Maglev table.

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dataplane::base::limits::DEFAULT_TABLE_SIZE;
use dataplane::select::maglev::{self, Candidate};

const KEY: [u8; 16] = *b"0123456789abcdef";

/// Backends that have these weights in rotation.
fn candidates(count: usize, weights: &[u32]) -> Vec<Candidate> {
    let weights = weights.iter().cycle().take(count);
    (0..)
        .zip(weights)
        .map(|(i, &weight)| Candidate { address: Ipv4Addr::from_bits(0x0a00_0003 + i).into(), weight })
        .collect()
}

fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("maglev");
    group.sample_size(20);
    let hundred: Vec<u32> = (1..=100).collect();
    let various: Vec<u32> = (1..=1_000).map(|i| i * 61 % 60_000 + 1).collect();
    for (name, count, weights) in [
        ("equal weights", 16, &[1][..]),
        ("equal weights", 100, &[1]),
        ("equal weights", 1_000, &[1]),
        ("weights 1 to 5", 100, &[1, 2, 3, 4, 5]),
        ("weights 1 to 5", 1_000, &[1, 2, 3, 4, 5]),
        ("weights 1 to 100", 1_000, &hundred),
        ("a weight each", 1_000, &various),
    ] {
        let candidates = candidates(count, weights);
        group.bench_with_input(BenchmarkId::new(name, count), &candidates, |bencher, candidates| {
            bencher.iter(|| maglev::build(&KEY, DEFAULT_TABLE_SIZE, black_box(candidates)));
        });
    }
    group.finish();
}

criterion_group!(benches, tables);
criterion_main!(benches);
