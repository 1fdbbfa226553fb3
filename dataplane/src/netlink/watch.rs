//! A watch on network interfaces: a netlink socket, and what it has heard.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc::{ENOBUFS, MSG_DONTWAIT, RTNLGRP_LINK};

use crate::netlink::interface::News;
use crate::netlink::message::{self, Heard};

/// The kernel's datagrams are no larger than this (`NLMSG_GOODSIZE`, and 32 KiB for whoever has asked with large buffers).
const DATAGRAM: usize = 65_536;

/// The kernel's own address.
const KERNEL: u32 = 0;

/// Hears what the kernel says of all interfaces, and asks for some.
pub struct Watch {
    socket: Socket,
    names: Vec<String>,
    /// The names that were asked for, by the number of the request.
    asked: BTreeMap<u32, String>,
    sequence: u32,
    news: VecDeque<News>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Begins to hear news of all interfaces, and asks for those of these names.
    ///
    /// # Errors
    /// Where the kernel gives no such socket.
    pub fn new(names: Vec<String>) -> io::Result<Watch> {
        let (socket, buffer) = (subscribed()?, Vec::with_capacity(DATAGRAM));
        let mut watch = Watch { socket, names, asked: BTreeMap::new(), sequence: 0, news: VecDeque::new(), buffer };
        watch.ask()?;
        Ok(watch)
    }

    /// Begins anew, after an error.
    ///
    /// # Errors
    /// As [`Self::new`]; nothing has changed then.
    pub fn renew(&mut self) -> io::Result<()> {
        self.socket = subscribed()?;
        self.ask()
    }

    /// The next news. Sleeps until there are some.
    ///
    /// # Errors
    /// Where the socket cannot be used any more.
    pub fn wait(&mut self) -> io::Result<News> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            self.receive(0)?;
        }
    }

    /// The news that are there. The answers to what was asked are among them, since the kernel answers at once.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn take(&mut self) -> io::Result<Vec<News>> {
        loop {
            match self.receive(MSG_DONTWAIT) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.news.drain(..).collect()),
                outcome => outcome?,
            }
        }
    }

    fn ask(&mut self) -> io::Result<()> {
        self.asked.clear();
        for name in &self.names {
            self.sequence = self.sequence.wrapping_add(1);
            self.asked.insert(self.sequence, name.clone());
            self.socket.send_to(&message::request(name, self.sequence), &SocketAddr::new(KERNEL, 0), 0)?;
        }
        Ok(())
    }

    fn receive(&mut self, flags: i32) -> io::Result<()> {
        self.buffer.clear();
        match self.socket.recv_from(&mut self.buffer, flags) {
            Ok((_, from)) if from.port_number() != KERNEL => Ok(()),
            Ok(_) => {
                let heard = message::read(&self.buffer).unwrap_or_else(|problem| {
                    tracing::debug!("a message of the kernel about an interface is not understood: {problem}");
                    vec![]
                });
                heard.into_iter().try_for_each(|heard| self.note(heard))
            }
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => self.note(Heard::Lost),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, heard: Heard) -> io::Result<()> {
        match heard {
            Heard::News(news) => self.news.push_back(news),
            Heard::NoDevice(number) => self.news.extend(self.asked.remove(&number).map(News::Absent)),
            Heard::Refused(number, code) => {
                let name = self.asked.remove(&number).unwrap_or_default();
                tracing::warn!("the kernel does not tell of {name}: {}", io::Error::from_raw_os_error(code));
            }
            Heard::Lost => {
                tracing::debug!("messages of the kernel about interfaces were lost: asking anew");
                self.ask()?;
            }
            Heard::Nothing => {}
        }
        Ok(())
    }
}

/// A socket that hears of all interfaces. It is there before the first question is asked: so nothing that happens in between is
/// missed.
fn subscribed() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.add_membership(RTNLGRP_LINK)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks the kernel itself: an interface that every network namespace has, and one that none has.
    #[test]
    fn what_was_asked_for_is_answered_at_once() {
        let names = ["lo", "no-such-one"].map(String::from);
        let mut watch = Watch::new(names.to_vec()).unwrap();
        for _ in 0..2 {
            let news = watch.take().unwrap();
            let lo = news.iter().any(|news| matches!(news, News::Is(interface) if interface.is_called("lo")));
            assert!(lo && news.contains(&News::Absent("no-such-one".into())), "{news:?}");
            // As after a loss: everything is asked for again.
            watch.note(Heard::Lost).unwrap();
        }
        assert!(watch.wait().is_ok());
    }
}
