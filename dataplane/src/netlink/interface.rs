//! A network interface, as the kernel describes it.

use ctl::Mac;

/// What the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// There is this interface, or it has changed.
    Is(Interface),
    /// The interface of this index is gone: deleted, or moved to another network namespace.
    Gone(u32),
    /// There is no interface of this name.
    Absent(String),
}

/// A network interface of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its index. An interface that is deleted and made again has another one.
    pub index: u32,
    /// Its names: that of `ip link`, then the alternative ones. Empty where the message had none.
    pub names: Vec<String>,
    /// Whether it is administratively up (`ip link set NAME up`).
    pub admin_up: bool,
    /// Whether its link is up (`LOWER_UP`), and nothing else keeps frames from passing (`RUNNING`).
    pub running: bool,
    /// Its MAC address. `None` where the message had none, or where it is no Ethernet interface.
    pub mac: Option<Mac>,
    /// Its MTU. `None` where the message had none.
    pub mtu: Option<u32>,
}

impl Interface {
    /// Whether frames can be sent and received.
    pub fn is_up(&self) -> bool {
        self.admin_up && self.running
    }

    /// Whether this is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Completes news that do not say everything with what was said before of the same interface.
    pub fn or(mut self, before: &Interface) -> Interface {
        if self.names.is_empty() {
            self.names.clone_from(&before.names);
        }
        self.mac = self.mac.or(before.mac);
        self.mtu = self.mtu.or(before.mtu);
        self
    }
}
