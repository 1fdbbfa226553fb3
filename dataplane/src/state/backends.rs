//! The addresses of all backends: whose frames tell the director where a backend is.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

/// How many services have each backend. It is in parts, so that a copy is cheap, and a change copies only one small
/// part.
#[derive(Debug, Clone)]
pub struct BackendUses(Box<[Arc<HashMap<IpAddr, usize>>]>);

impl Default for BackendUses {
    fn default() -> Self {
        BackendUses((0..=u8::MAX).map(|_| Arc::default()).collect())
    }
}

impl BackendUses {
    /// Whether some service has a backend with this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0[part(address)].contains_key(&address)
    }

    /// Counts that one more service has this backend, or one less.
    pub fn count(&mut self, address: IpAddr, more: bool) {
        let uses = Arc::make_mut(&mut self.0[part(address)]);
        let count = uses.entry(address).or_default();
        *count = if more { *count + 1 } else { *count - 1 };
        if *count == 0 {
            uses.remove(&address);
        }
    }
}

fn part(address: IpAddr) -> usize {
    let last = match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    usize::from(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_one_as_long_as_a_service_has_it() {
        let address: IpAddr = "192.168.0.3".parse().unwrap();
        let mut uses = BackendUses::default();
        for (more, contains) in [(true, true), (true, true), (false, true), (false, false)] {
            uses.count(address, more);
            assert_eq!(uses.contains(address), contains);
            assert!(!uses.contains("10.1.1.3".parse().unwrap()), "another address in the same part");
        }
    }
}
