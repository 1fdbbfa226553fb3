//! The backend with the fewest connections, by a tournament.
//!
//! A worker ranks a service's backends in a tree: two neighbors meet, the winner meets the winner of the next two, and the
//! backend that wins at the root gets the next flow. When the load of one backend changes, only its own matches are
//! played again: 14 of 10,000 backends. So no new flow looks at all backends, and the choice is as exact as if it did.
//!
//! The load of a backend is divided by its weight. Of backends with equal loads, the one that was chosen longest ago wins,
//! so that they take turns, and workers begin at different backends.
//!
//! The control side makes the memory, and a worker fills in the loads when it needs the tree first. Only that worker writes
//! there.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use crate::base::counter::Counter;
use crate::base::ids::{BackendNo, WorkerNo};
use crate::base::limits::MAX_BACKENDS;

const _: () = assert!(MAX_BACKENDS < u16::MAX as usize, "a match knows its players by two bytes");

/// The backends of a service with their weights, and each worker's ranking of them.
#[derive(Debug)]
pub struct Fewest {
    /// By backend. A backend of weight 0 takes no flows.
    weights: Box<[u32]>,
    rankings: Box<[Ranking]>,
}

/// One worker's ranking of the backends.
#[derive(Debug)]
#[repr(align(128))] // no two workers write to one line
struct Ranking {
    /// The choices so far, and the rounds before the first. 0: the loads are not filled in.
    turn: Counter,
    players: Box<[Players]>,
    /// By match: the winner. Match 1 is the last; those that meet in match `m` are the winners of the matches `2m` and
    /// `2m + 1`. Numbers from that of the backends on are no matches, but the backends.
    winners: Box<[Winners]>,
}

/// What is known of a backend.
#[derive(Debug, Default)]
struct Player {
    /// The bits of its load divided by its weight, as an f64: so they are in the order of the shares, and so close to each
    /// other that no two shares are confused ([`Fewest::share`]). Weight 0: [`NO_SHARE`].
    share: Counter,
    /// The turn in which it was chosen last.
    last: Counter,
}

/// The share of a backend that takes no flows: above all others.
const NO_SHARE: u64 = u64::MAX;

const PLAYERS: usize = 8;
const WINNERS: usize = 64;

/// Some backends. Their memory is a worker's alone.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Players([Player; PLAYERS]);

/// The winners of some matches.
#[derive(Debug)]
#[repr(align(128))]
struct Winners([AtomicU16; WINNERS]);

/// A backend as it competes.
#[derive(Clone, Copy)]
struct Rank {
    number: usize,
    /// Its share, then its last turn. The lower one wins.
    key: u128,
}

impl Fewest {
    /// For backends with these weights, and this many workers.
    pub fn new(weights: Box<[u32]>, workers: usize) -> Self {
        let rankings = (0..workers).map(|_| Ranking::new(weights.len())).collect();
        Fewest { weights, rankings }
    }

    /// By backend, its weight.
    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// The backend of the worker's next flow. `load` returns the load of a backend by its number. [`BackendNo::NONE`]: no
    /// backend has a weight. `None`: there is no such worker.
    pub(super) fn next(&self, worker: WorkerNo, load: impl Fn(usize) -> u64) -> Option<BackendNo> {
        let ranking = self.rankings.get(worker.index())?;
        if ranking.turn.read() == 0 {
            self.fill(ranking, worker, &load);
        }
        if self.weights.is_empty() {
            return Some(BackendNo::NONE);
        }
        let best = self.winner(ranking, 1).number;
        if self.weights[best] == 0 {
            return Some(BackendNo::NONE);
        }
        let player = ranking.player(best);
        // The flow counts at once, so that one play is enough: when it is remembered, nothing is new.
        player.share.set(self.share(best, load(best) + 1));
        player.last.set(ranking.turn.read());
        ranking.turn.add(1);
        self.play(ranking, best);
        Some(BackendNo::new(best))
    }

    /// Notes a backend's load. As long as no flow has needed the worker's ranking, there is nothing to note.
    pub(super) fn set_load(&self, worker: WorkerNo, backend: usize, load: u64) {
        let Some(ranking) = self.rankings.get(worker.index()).filter(|ranking| ranking.turn.read() > 0) else { return };
        if backend < self.weights.len() {
            let (player, share) = (ranking.player(backend), self.share(backend, load));
            if player.share.read() != share {
                player.share.set(share);
                self.play(ranking, backend);
            }
        }
    }

    /// A backend's load divided by its weight. A load is below 2^35 (256 times the flows that a worker can remember), and a
    /// weight below 2^16: two such quotients differ by one part in 2^51 at least, and an f64 has 53 bits.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "loads are below 2^53")]
    fn share(&self, backend: usize, load: u64) -> u64 {
        match self.weights[backend] {
            0 => NO_SHARE,
            weight => (load as f64 / f64::from(weight)).to_bits(),
        }
    }

    /// Fills in all loads, and plays all matches.
    #[cold]
    fn fill(&self, ranking: &Ranking, worker: WorkerNo, load: impl Fn(usize) -> u64) {
        let count = self.weights.len();
        let start = worker.index() * count / self.rankings.len().max(1);
        for number in 0..count {
            let player = ranking.player(number);
            player.share.set(self.share(number, load(number)));
            player.last.set(((number + count - start) % count) as u64);
        }
        for game in (1..count).rev() {
            self.play_one(ranking, game);
        }
        ranking.turn.set(count as u64 + 1);
    }

    /// Plays the matches of one backend again, from its first to the last. The winners of the others still stand.
    #[inline]
    fn play(&self, ranking: &Ranking, backend: usize) {
        let count = self.weights.len();
        let mut best = ranking.rank(backend);
        let mut game = count + backend;
        // Bound: each round halves the number of the match, which is below twice the number of backends.
        while game > 1 {
            let rival = self.winner(ranking, game ^ 1);
            best = if rival.key < best.key { rival } else { best };
            game /= 2;
            ranking.set_winner(game, best.number);
        }
    }

    fn play_one(&self, ranking: &Ranking, game: usize) {
        let [one, other] = [2 * game, 2 * game + 1].map(|game| self.winner(ranking, game));
        ranking.set_winner(game, if other.key < one.key { other.number } else { one.number });
    }

    /// The winner of a match, or the backend that this number stands for.
    #[inline]
    fn winner(&self, ranking: &Ranking, game: usize) -> Rank {
        let count = self.weights.len();
        ranking.rank(if game < count { ranking.winner(game) } else { game - count })
    }
}

impl Ranking {
    fn new(backends: usize) -> Self {
        let winners = || Winners(std::array::from_fn(|_| AtomicU16::new(u16::MAX)));
        Ranking {
            turn: Counter::default(),
            players: (0..backends.div_ceil(PLAYERS)).map(|_| Players::default()).collect(),
            winners: (0..backends.div_ceil(WINNERS)).map(|_| winners()).collect(),
        }
    }

    #[inline]
    fn player(&self, number: usize) -> &Player {
        &self.players[number / PLAYERS].0[number % PLAYERS]
    }

    #[inline]
    fn rank(&self, number: usize) -> Rank {
        let player = self.player(number);
        Rank { number, key: u128::from(player.share.read()) << 64 | u128::from(player.last.read()) }
    }

    #[inline]
    fn winner(&self, game: usize) -> usize {
        self.winners[game / WINNERS].0[game % WINNERS].load(Relaxed).into()
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "numbers of backends are below MAX_BACKENDS")]
    fn set_winner(&self, game: usize, number: usize) {
        self.winners[game / WINNERS].0[game % WINNERS].store(number as u16, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    const WORKER: WorkerNo = WorkerNo::new(0);

    /// The ranking as defined: all backends are looked at. The loads, and the turn in which each was chosen last.
    struct Plain {
        weights: Vec<u32>,
        loads: RefCell<Vec<u64>>,
        last: Vec<u64>,
        turn: u64,
    }

    impl Plain {
        fn next(&mut self) -> BackendNo {
            let loads = self.loads.borrow();
            let rank = |&number: &usize| {
                let (load, weight) = (u128::from(loads[number]), u128::from(self.weights[number]));
                // Over the product of all weights, shares are whole numbers.
                let share = load * self.weights.iter().filter(|&&w| w > 0).map(|&w| u128::from(w)).product::<u128>();
                (share / weight, self.last[number])
            };
            let Some(best) = (0..loads.len()).filter(|&number| self.weights[number] > 0).min_by_key(rank) else {
                return BackendNo::NONE;
            };
            drop(loads);
            self.last[best] = self.turn;
            self.turn += 1;
            self.loads.borrow_mut()[best] += 1;
            BackendNo::new(best)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Next,
        Load(prop::sample::Index, u64),
    }

    proptest! {
        #[test]
        fn the_winner_is_the_backend_with_the_least_load_for_its_weight(
            weights in prop::collection::vec(0u32..5, 1..40),
            loads in prop::collection::vec(0u64..4, 40),
            steps in prop::collection::vec(prop_oneof![
                3 => Just(Step::Next),
                2 => (any::<prop::sample::Index>(), 0u64..6).prop_map(|(backend, load)| Step::Load(backend, load)),
            ], 0..200),
        ) {
            let count = weights.len();
            let fewest = Fewest::new(weights.clone().into(), 1);
            let last = (0..count as u64).collect();
            let loads = RefCell::new(loads[..count].to_vec());
            let mut plain = Plain { weights, loads, last, turn: count as u64 + 1 };
            for step in steps {
                match step {
                    Step::Next => {
                        let next = fewest.next(WORKER, |number| plain.loads.borrow()[number]);
                        prop_assert_eq!(next, Some(plain.next()));
                    }
                    Step::Load(backend, load) => {
                        let backend = backend.index(count);
                        plain.loads.borrow_mut()[backend] = load;
                        fewest.set_load(WORKER, backend, load);
                    }
                }
            }
        }
    }

    #[test]
    fn equal_backends_take_turns_and_workers_begin_at_different_ones() {
        let fewest = Fewest::new([1, 1, 0, 1].into(), 2);
        // The flows end at once.
        let picks = |worker, count| -> Vec<Option<BackendNo>> {
            let worker = WorkerNo::new(worker);
            let pick = |_| fewest.next(worker, |_| 0).inspect(|next| fewest.set_load(worker, next.index(), 0));
            (0..count).map(pick).collect()
        };
        let of = |numbers: &[usize]| numbers.iter().map(|&number| Some(BackendNo::new(number))).collect::<Vec<_>>();
        assert_eq!(picks(0, 6), of(&[0, 1, 3, 0, 1, 3]));
        assert_eq!(picks(1, 6), of(&[3, 0, 1, 3, 0, 1]));
        assert_eq!(fewest.next(WorkerNo::new(2), |_| 0), None);
    }

    #[test]
    fn without_a_weight_no_backend_is_chosen() {
        for weights in [&[][..], &[0], &[0, 0, 0]] {
            assert_eq!(Fewest::new(weights.into(), 1).next(WORKER, |_| 0), Some(BackendNo::NONE), "{weights:?}");
        }
    }

    #[test]
    fn large_loads_and_weights_are_compared_exactly() {
        let flows = 1u64 << 18;
        // The shares are about 2^18, and differ by 2^-32.
        for (loads, first) in [
            ([65_535 * flows - 1, 65_534 * flows - 1], 1),
            ([65_535 * flows + 1, 65_534 * flows + 1], 0),
            ([65_535 * flows, 65_534 * flows], 0),
        ] {
            let fewest = Fewest::new([65_535, 65_534].into(), 1);
            assert_eq!(fewest.next(WORKER, |number| loads[number]), Some(BackendNo::new(first)), "{loads:?}");
        }
    }

    /// The loads of 10,000 backends stay within one flow of each other.
    #[test]
    fn many_backends_are_loaded_evenly() {
        let fewest = Fewest::new(vec![1; MAX_BACKENDS].into(), 1);
        let mut loads = vec![0; MAX_BACKENDS];
        for _ in 0..3 * MAX_BACKENDS + 7 {
            let next = fewest.next(WORKER, |_| 0).unwrap().index();
            loads[next] += 1;
            fewest.set_load(WORKER, next, loads[next]);
        }
        assert!(loads.iter().all(|&load| load == 3 || load == 4));
    }
}
