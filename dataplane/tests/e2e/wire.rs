//! Raw frames, sent and captured on a host's interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};

use crate::lab::Lab;

/// Sends frames from a host.
pub(crate) fn send(lab: &Lab, host: &str, frames: Vec<Vec<u8>>) {
    let sending = lab.inside(host, move || {
        let (mut sender, _) = open("lan0");
        for frame in frames {
            sender.send_to(&frame, None).unwrap().unwrap();
        }
    });
    sending.join().unwrap();
}

/// The frames that arrive at a host, from the start of the capture on.
pub(crate) struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// Starts a capture; returns when it runs.
    pub(crate) fn start(lab: &Lab, host: &str) -> Capture {
        Capture::start_on(lab, host, "lan0")
    }

    /// The same on another interface than lan0.
    pub(crate) fn start_on(lab: &Lab, host: &str, interface: &'static str) -> Capture {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = std::sync::mpsc::channel();
        let thread = {
            let stop = stop.clone();
            lab.inside(host, move || {
                let (_, mut receiver) = open(interface);
                ready.send(()).unwrap();
                let mut frames = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(frame) = receiver.next() {
                        frames.push(frame.to_vec());
                    }
                }
                frames
            })
        };
        started.recv().unwrap();
        Capture { stop, thread }
    }

    /// Waits for a moment, then returns all frames that have arrived.
    pub(crate) fn finish(self) -> Vec<Vec<u8>> {
        std::thread::sleep(Duration::from_millis(300));
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

pub(crate) fn open(name: &str) -> (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>) {
    let interface = pnet_datalink::interfaces().into_iter().find(|interface| interface.name == name).unwrap();
    let config = Config {
        read_timeout: Some(Duration::from_millis(50)),
        read_buffer_size: 1 << 16,
        write_buffer_size: 1 << 16,
        ..Config::default()
    };
    match pnet_datalink::channel(&interface, config).unwrap() {
        Channel::Ethernet(sender, receiver) => (sender, receiver),
        _ => panic!("not an Ethernet interface"),
    }
}
