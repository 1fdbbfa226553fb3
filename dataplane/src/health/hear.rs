//! What comes for probes: to which of them a packet belongs, and what becomes of what belongs to none.

use std::time::Instant;

use ctl::Mac;

use crate::base::frame::Frame;
use crate::base::ids::NetworkNo;
use crate::health::diagnosis::Question;
use crate::health::engine::{Engine, FIRST_PORT, LAST_PORT, Running};
use crate::health::incoming::{Incoming, Kind, read};

impl Engine {
    /// Takes a frame to one of the director's own addresses, without tags. Returns the frames to send.
    pub fn hear(&mut self, frame: &[u8], network: NetworkNo, now: Instant) -> Vec<Frame> {
        let mut frames = Vec::new();
        let Some(&[a, b, c, d, e, f]) = frame.get(6..).and_then(<[u8]>::first_chunk) else { return frames };
        let station = Mac([a, b, c, d, e, f]);
        let Some(packet) = frame.get(14..).and_then(read) else { return frames };
        if self.sizes.hear(&packet, station, network, now) {
            return frames;
        }
        let local = match &packet.kind {
            Kind::Tcp { to, .. } | Kind::Udp { to, .. } => *to,
            Kind::Pong { ident, .. } => *ident,
            Kind::Error { quoted, .. } | Kind::TooBig { quoted, .. } => quoted.local,
        };
        let Some(running) = self.probes.get_mut(&local).filter(|running| running.expects(&packet, station, network))
        else {
            return self.refuse(frame, &packet, network, now);
        };
        let (number, port) = (running.item, running.port);
        if let (Some(Question::OwnPing), Kind::Pong { hop_limit, .. }, Some(item)) =
            (running.question, &packet.kind, &mut self.items[number])
        {
            item.answers.take_hop_limit(*hop_limit);
        }
        let progress = running.probe.hear(&packet.kind, &mut self.stack, now);
        if progress.finding.is_some()
            && let Some(item) = &mut self.items[number]
        {
            self.truth.answered(port, &mut item.voids);
        }
        self.go_on(local, progress, &mut frames, now);
        frames
    }

    /// Takes what the TLS sessions have said, while there is room for frames. Returns the frames to send.
    pub(super) fn hear_sessions(&mut self, now: Instant, room: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        for _ in 0..room {
            if frames.len() >= room {
                break;
            }
            let Some(mut said) = self.stack.desk.next_said() else { break };
            let (key, local) = (said.key, said.key.local);
            let Some(running) = self.probes.get_mut(&local).filter(|running| running.probe.is_of(key)) else {
                continue;
            };
            let (number, serial, port) = (running.item, running.serial, running.port);
            let certificate = said.certificate.take();
            let progress = running.probe.hear_session(said, &mut self.stack, now);
            if let Some(report) = certificate {
                self.certificate(number, serial, report);
            }
            if progress.finding.is_some()
                && let Some(item) = &mut self.items[number]
            {
                self.truth.answered(port, &mut item.voids);
            }
            self.go_on(local, progress, &mut frames, now);
        }
        frames
    }

    /// Resets a connection that no probe has any more, so that nothing stays behind at the backend.
    fn refuse(&mut self, frame: &[u8], incoming: &Incoming<'_>, network: NetworkNo, now: Instant) -> Vec<Frame> {
        let Kind::Tcp { to, packet, .. } = incoming.kind else { return Vec::new() };
        let now_ms = u64::try_from(now.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX);
        if !(FIRST_PORT..=LAST_PORT).contains(&to) || !self.refused.take(now_ms) {
            return Vec::new();
        }
        let packets = self.stack.refuse(incoming.destination, packet, now);
        let header = [&frame[6..12], &frame[..6], &frame[12..14]].concat();
        let frame = |packet: Vec<u8>| Frame { network, bytes: [&header[..], &packet].concat() };
        packets.into_iter().map(frame).collect()
    }
}

impl Running {
    /// Whether a packet is for it: from the station and the address that it asks. An ICMP error comes from that station, too:
    /// there is no router on the way to a backend, and whoever is behind one must not be able to make up errors.
    fn expects(&self, packet: &Incoming<'_>, station: Mac, network: NetworkNo) -> bool {
        let way = &self.probe.way;
        let about = match &packet.kind {
            Kind::Error { quoted, .. } | Kind::TooBig { quoted, .. } => quoted.destination,
            _ => packet.source,
        };
        station == way.mac && about == way.target && packet.destination == way.source && network == way.network
    }
}
