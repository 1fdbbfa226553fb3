//! One worker's fragments: which go on, which are held, and which are another worker's.

use rtrb::Consumer;

use crate::base::exit::DropReason;
use crate::base::ids::{PortNo, WorkerNo};
use crate::base::packet::Burst;
use crate::forward::fragment::firsts::Firsts;
use crate::forward::fragment::held::Held;
use crate::forward::fragment::key::{Key, Sender};
use crate::forward::fragment::passing::{FragmentRings, Passed};
use crate::wire::flow::{Flow, FlowHasher, Transport};
use crate::wire::headers::{Fragment, Headers, Payload};

/// What to do with a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to a flow with these ports and this protocol.
    Of(Transport),
    /// Its first fragment is not known yet: hold it.
    Hold,
    /// It belongs to this other worker.
    Worker(WorkerNo),
}

/// One worker's fragments, and its rings to and from the other workers.
pub struct Fragments<P> {
    worker: WorkerNo,
    firsts: Firsts,
    held: Held<P>,
    rings: FragmentRings<P>,
    /// The ring that is emptied first, the next time.
    first_ring: usize,
}

impl<P> Fragments<P> {
    /// For this worker. All memory is allocated and touched here: the worker's own thread calls this when it is pinned.
    pub fn new(worker: WorkerNo, rings: FragmentRings<P>) -> Self {
        Fragments { worker, firsts: Firsts::new(), held: Held::new(), rings, first_ring: 0 }
    }

    /// For the only worker.
    pub fn alone() -> Self {
        Self::new(WorkerNo::new(0), FragmentRings::alone())
    }

    /// Decides what to do with a fragment of a flow. The ports of a first fragment are remembered.
    pub fn verdict(&mut self, flow: &Flow, fragment: Fragment, hasher: &FlowHasher, now_ms: u64) -> Verdict {
        let key = Key::new(flow, fragment.identification);
        let owner = self.owner(&key, hasher);
        if owner != self.worker {
            return Verdict::Worker(owner);
        }
        if fragment.first {
            let (transport, sender) = (flow.transport(), Sender::new(flow, hasher));
            self.firsts.remember(key, sender, transport, hasher, now_ms);
            self.held.release(&key, sender);
            return Verdict::Of(transport);
        }
        self.firsts.find(&key, hasher, now_ms).map_or(Verdict::Hold, Verdict::Of)
    }

    /// Holds a frame until its first fragment arrives. If there is no room, a frame gives way, perhaps this one. Returns
    /// the port of a frame that is dropped for that.
    pub fn hold(
        &mut self,
        headers: &Headers,
        port: PortNo,
        packet: P,
        hasher: &FlowHasher,
        now_ms: u64,
    ) -> Option<PortNo> {
        let (key, sender) = of_fragment(headers, hasher);
        // Its first fragment may have been behind it in the same burst.
        let ready = self.firsts.find(&key, hasher, now_ms).is_some();
        self.held.hold(key, sender, port, packet, ready, now_ms).map(|(port, _)| port)
    }

    /// Passes a frame on to the worker that owns its packet.
    pub fn pass(
        &mut self,
        worker: WorkerNo,
        headers: &Headers,
        port: PortNo,
        packet: P,
        hasher: &FlowHasher,
    ) -> Result<(), DropReason> {
        let (_, sender) = of_fragment(headers, hasher);
        let passage = self.rings.to.get_mut(worker.index()).and_then(Option::as_mut);
        let passed = passage.is_some_and(|passage| passage.pass(sender, Passed { port, packet }));
        if passed { Ok(()) } else { Err(DropReason::FragmentPassFull) }
    }

    /// The number of held frames.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether [`Fragments::ready`] and [`Fragments::overdue`] have nothing to return.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.rings.from.iter().all(Consumer::is_empty)
    }

    /// Adds frames of one port to `burst`: held frames whose first fragment has arrived, and frames from other workers.
    /// Returns the port.
    pub fn ready(&mut self, burst: &mut Burst<P>) -> Option<PortNo> {
        let mut port = self.held.take_ready(burst);
        // A worker that refills its ring at once must not keep the others' fragments waiting.
        let (others, rings) = self.rings.from.split_at_mut(self.first_ring);
        let first_ring = (self.first_ring + 1) % (rings.len() + others.len()).max(1);
        self.first_ring = first_ring;
        for ring in rings.iter_mut().chain(others) {
            // Bound: each round adds a frame to the burst, which holds BURST.
            while !burst.is_full() && ring.peek().is_ok_and(|passed| port.is_none_or(|port| port == passed.port)) {
                let Ok(passed) = ring.pop() else { break };
                port = Some(passed.port);
                burst.push(passed.packet);
            }
        }
        port
    }

    /// A frame that has been held for too long, and its port.
    pub fn overdue(&mut self, now_ms: u64) -> Option<(PortNo, P)> {
        self.held.overdue(now_ms)
    }

    fn owner(&self, key: &Key, hasher: &FlowHasher) -> WorkerNo {
        WorkerNo::new(crate::select::maglev::slot(key.hash(hasher), self.rings.to.len()))
    }
}

fn of_fragment(headers: &Headers, hasher: &FlowHasher) -> (Key, Sender) {
    let Headers { flow, payload, .. } = headers;
    let identification = if let Payload::Fragment(of) = payload { of.identification } else { 0 };
    (Key::new(flow, identification), Sender::new(flow, hasher))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::packet::BURST;
    use crate::forward::fragment::mesh;
    use crate::wire::headers::Segment;

    const PORT: PortNo = PortNo::new(0);

    fn udp(ports: u32) -> Transport {
        Transport { ports, protocol: 17 }
    }

    fn flow(source: u32, ports: u32) -> Flow {
        Flow::V4 { source, destination: 0xc0a8_0065, transport: udp(ports) }
    }

    fn fragment(identification: u32, first: bool) -> Fragment {
        Fragment { identification, first, extended: false, segment: Segment::Data }
    }

    fn connected(workers: usize) -> Vec<Fragments<u32>> {
        mesh(workers)
            .into_iter()
            .enumerate()
            .map(|(worker, rings)| Fragments::new(WorkerNo::new(worker), rings))
            .collect()
    }

    fn hasher() -> FlowHasher {
        FlowHasher::new(&[1; 16])
    }

    fn headers(source: u32, id: u32) -> Headers {
        Headers::new(flow(source, 0), Payload::Fragment(fragment(id, false)))
    }

    #[test]
    fn later_fragments_get_the_ports_of_their_first() {
        let mut fragments = Fragments::<u32>::alone();
        let mut verdict = |source, ports, id, first, now| {
            fragments.verdict(&flow(source, ports), fragment(id, first), &hasher(), now)
        };
        assert_eq!(verdict(1, 0, 7, false, 0), Verdict::Hold);
        assert_eq!(verdict(1, 99, 7, true, 0), Verdict::Of(udp(99)));
        assert_eq!(verdict(1, 0, 7, false, 1), Verdict::Of(udp(99)));
        assert_eq!(verdict(1, 0, 8, false, 1), Verdict::Hold, "another packet");
        assert_eq!(verdict(2, 0, 7, false, 1), Verdict::Hold, "another source");
        assert_eq!(verdict(1, 55, 7, true, 2), Verdict::Of(udp(55)), "the identification is used again");
        assert_eq!(verdict(1, 0, 7, false, 3), Verdict::Of(udp(55)));
        assert_eq!(verdict(1, 0, 7, false, 40_000), Verdict::Hold, "long ago");
    }

    #[test]
    fn the_protocol_is_part_of_an_ipv4_packets_name_and_not_of_an_ipv6_packets() {
        let mut fragments = Fragments::<u32>::alone();
        let mut verdict = |flow: Flow, protocol, ports, first| {
            let flow = flow.with_transport(Transport { ports, protocol });
            fragments.verdict(&flow, fragment(7, first), &hasher(), 0)
        };
        let v4 = flow(1, 0);
        let v6 = Flow::V6 { source: 1, destination: 2, transport: udp(0) };
        for flow in [v4, v6] {
            assert_eq!(verdict(flow, 17, 99, true), Verdict::Of(udp(99)));
        }
        assert_eq!(verdict(v4, 60, 0, false), Verdict::Hold);
        assert_eq!(verdict(v6, 60, 0, false), Verdict::Of(udp(99)), "its fragment header names destination options");
    }

    #[test]
    fn a_frame_whose_first_fragment_came_behind_it_in_a_burst_goes_on_at_once() {
        let mut fragments = Fragments::<u32>::alone();
        let hasher = hasher();
        assert_eq!(fragments.verdict(&flow(1, 0), fragment(7, false), &hasher, 0), Verdict::Hold);
        assert_eq!(fragments.verdict(&flow(1, 99), fragment(7, true), &hasher, 0), Verdict::Of(udp(99)));
        assert_eq!(fragments.hold(&headers(1, 7), PORT, 5, &hasher, 0), None);
        assert_eq!(fragments.hold(&headers(1, 8), PORT, 6, &hasher, 0), None);
        let mut burst = Burst::new();
        assert_eq!(fragments.ready(&mut burst), Some(PORT));
        assert_eq!((burst.as_slice(), fragments.held()), (&[5][..], 1));
    }

    #[test]
    fn all_fragments_of_a_packet_have_one_owner_and_reach_it() {
        let mut workers = connected(4);
        let hasher = hasher();
        let mut owners = [0; 4];
        for id in 0..400 {
            let verdicts: Vec<Verdict> =
                workers.iter_mut().map(|w| w.verdict(&flow(1, 0), fragment(id, false), &hasher, 0)).collect();
            let owner = verdicts.iter().position(|verdict| *verdict == Verdict::Hold).unwrap();
            owners[owner] += 1;
            for (worker, verdict) in verdicts.into_iter().enumerate().filter(|(worker, _)| *worker != owner) {
                assert_eq!(verdict, Verdict::Worker(WorkerNo::new(owner)));
                workers[worker].pass(WorkerNo::new(owner), &headers(1, id), PORT, id, &hasher).unwrap();
            }
            let mut burst = Burst::new();
            assert!(!workers[owner].is_idle());
            assert_eq!(workers[owner].ready(&mut burst), Some(PORT));
            assert_eq!(burst.as_slice(), [id; 3]);
        }
        assert!(owners.iter().all(|&count| count > 50), "{owners:?}");
    }

    #[test]
    fn a_ring_that_is_always_full_does_not_keep_the_others_waiting() {
        let (mut workers, hasher) = (connected(4), hasher());
        let to_first = |worker: &mut Fragments<u32>, sender, packet| {
            worker.pass(WorkerNo::new(0), &headers(sender, 7), PORT, packet, &hasher).is_ok()
        };
        assert!(to_first(&mut workers[2], 2, 2) && to_first(&mut workers[3], 3, 3));
        let mut taken = Vec::new();
        for turn in 0..8 {
            (0..1_000).for_each(|sender| _ = to_first(&mut workers[1], 1_000 * turn + sender, 1));
            let mut burst = Burst::new();
            workers[0].ready(&mut burst);
            assert_eq!(burst.len(), BURST);
            taken.extend(burst);
        }
        assert!(taken.contains(&2) && taken.contains(&3));
    }

    #[test]
    fn a_worker_that_does_not_keep_up_gets_no_more_frames() {
        let mut workers = connected(2);
        let pass = |workers: &mut [Fragments<u32>], of| {
            workers[0].pass(WorkerNo::new(1), &headers(of, 7), PORT, of, &hasher())
        };
        let passed = (0..1_000).filter(|&packet| pass(&mut workers, packet).is_ok()).count();
        assert!((32..1_000).contains(&passed), "{passed}");
        assert_eq!(pass(&mut workers, 7), Err(DropReason::FragmentPassFull));
        let mut burst = Burst::new();
        workers[1].ready(&mut burst);
        assert_eq!(pass(&mut workers, 1_007), Ok(()), "there is room again");
    }
}
