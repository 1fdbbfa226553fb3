//! Faults of what is not there any more.

use ctl::answer::Subject;

use crate::control::compile::Compiled;
use crate::control::faults::Faults;

/// Forgets the faults of services, backends and VIPs that a new model does not have.
pub fn forget_removed(faults: &Faults, current: &Compiled) {
    faults.retain(|_, subject| is_there(subject, current));
}

fn is_there(Subject { service, vip, backend, port: _, mac: _ }: &Subject, current: &Compiled) -> bool {
    let of_service = service.map(|id| current.model.services.get(&id));
    let has_backend = |address| match of_service {
        Some(Some(service)) => service.backends.iter().any(|backend| backend.address == address),
        Some(None) => false,
        None => current.backends.contains(address),
    };
    !matches!(of_service, Some(None))
        && backend.is_none_or(has_backend)
        && vip.is_none_or(|vip| current.vips.local(vip).is_some())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::control::fault::{FaultKind, Sighting};
    use crate::testing::model::{leases, model, service, snapshot};

    #[test]
    fn a_fault_stays_as_long_as_what_it_is_about() {
        let mut model = model();
        for (vip, backend) in [("192.168.0.101:80", "192.168.0.3"), ("[fd00::101]:80", "fd00::3")] {
            model.add_service(&service(vip, &[(backend, 1)]), &leases()).unwrap();
        }
        let (faults, current, now) = (Faults::default(), snapshot(model), Instant::now());
        let address = |text: &str| text.parse().ok();
        let subject = |service: &str, vip: &str, backend: &str| Subject {
            service: service.parse().ok(),
            vip: address(vip),
            backend: address(backend),
            ..Subject::default()
        };
        let stay = [
            subject("", "", ""),
            subject("192.168.0.101:80", "", "192.168.0.3"),
            subject("", "fd00::101", "192.168.0.3"),
            subject("", "192.168.0.2", ""),
        ];
        let go = [
            subject("192.168.0.101:81", "", ""),
            subject("[fd00::101]:80", "", "192.168.0.3"),
            subject("", "", "fd00::4"),
            subject("", "192.168.0.102", "fd00::3"),
        ];
        for subject in stay.iter().chain(&go) {
            faults.open(Sighting::new(FaultKind::Hung, subject.clone(), "", ""), now);
        }
        forget_removed(&faults, &current);
        assert!(stay.iter().all(|subject| faults.is_open(FaultKind::Hung, subject)));
        assert_eq!(faults.list().len(), stay.len());
    }
}
