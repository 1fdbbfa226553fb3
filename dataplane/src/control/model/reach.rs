//! Which contacts the backends of a service have to have, by what the network says of all of them.

use crate::control::model::backend::Backend;
use crate::control::model::contact::{Contact, Outlook, Reach};
use crate::control::model::health::Ask;
use crate::control::model::service::Service;

impl Service {
    /// How a backend can be reached. One with a pinned MAC address need not answer, nor one that is not checked at all. One that
    /// its checks say is down is as good as one that does not answer.
    fn reach(&self, backend: &Backend, outlook: &Outlook) -> Reach {
        let unchecked = self.checks.iter().any(|check| matches!(check.ask, Ask::Nothing));
        match outlook.of(backend.address) {
            Reach::NoLink => Reach::NoLink,
            reach if reach != Reach::Answers && !unchecked && backend.pinned.is_none() => reach,
            _ if outlook.is_down(&self.id, backend.address) => Reach::Down,
            _ => Reach::Answers,
        }
    }
}

/// With fewer addresses than this, each one is looked up in the service's backends. With more, each backend is looked
/// up in the addresses.
pub(super) const FEW_ADDRESSES: usize = 16;

impl Service {
    /// The contacts of its backends, as they have to be.
    pub(super) fn contacts(&self, outlook: &Outlook, now_ms: u64) -> Vec<Contact> {
        let answers = |backend: &Backend| backend.is_wanted() && self.reach(backend, outlook) == Reach::Answers;
        let others = self.backends.iter().any(answers);
        let next =
            |backend: &Backend| backend.contact.next(self.reach(backend, outlook), others, now_ms, self.handover_ms);
        self.backends.iter().map(next).collect()
    }

    /// The same, but a backend that is to have new flows again has to wait, because it needs a new table: others have the
    /// flows that have begun in its slots. It does not wait if none of those others is left.
    pub(super) fn contacts_at_once(&self, outlook: &Outlook, now_ms: u64) -> Vec<Contact> {
        let mut contacts = self.contacts(outlook, now_ms);
        let stays = |(backend, next): (&Backend, &Contact)| {
            backend.is_wanted() && backend.contact.keeps_old_flows() && next.keeps_old_flows()
        };
        if self.backends.iter().zip(&contacts).any(stays) {
            for (next, backend) in contacts.iter_mut().zip(&self.backends) {
                if next.takes_new_flows() && !backend.contact.takes_new_flows() {
                    *next = backend.contact;
                }
            }
        }
        contacts
    }

    /// Whether some contact is, or may have to be, other than up. Quick for the many services that have no such backend.
    pub(super) fn is_concerned(&self, outlook: &Outlook) -> bool {
        if self.backends.iter().any(|backend| backend.contact != Contact::Up) {
            return true;
        }
        if outlook.judges(&self.id) {
            return true;
        }
        if outlook.addresses().len() < FEW_ADDRESSES {
            return outlook.addresses().any(|address| self.number_of(address).is_ok());
        }
        self.backends.iter().any(|backend| self.reach(backend, outlook) != Reach::Answers)
    }

    /// Whether its backends' contacts are not those that they have to be.
    pub(super) fn has_other_contacts(&self, outlook: &Outlook, now_ms: u64) -> bool {
        let now = || self.backends.iter().map(|backend| backend.contact);
        self.is_concerned(outlook) && !self.contacts(outlook, now_ms).into_iter().eq(now())
    }

    /// Sets the contacts of its backends.
    pub(super) fn set_contacts(&mut self, contacts: Vec<Contact>) {
        for (backend, contact) in self.backends.iter_mut().zip(contacts) {
            backend.contact = contact;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use ctl::request::ServiceAdd;
    use ctl::{OnAllDown, Tracking};

    use super::*;
    use crate::base::ids::BackendNo;
    use crate::control::model::{Model, Reachability};
    use crate::testing::docs;
    use crate::testing::model::{backend, leases, model, service};

    const HANDOVER_MS: u64 = 900_000;

    fn addresses(vip: &str) -> [IpAddr; 2] {
        let text = if vip.starts_with('[') { ["fd00::3", "fd00::4"] } else { ["192.168.0.3", "192.168.0.4"] };
        text.map(|address| address.parse().unwrap())
    }

    /// A service with two backends of equal weight.
    fn two(vip: &str, change: impl FnOnce(&mut ServiceAdd)) -> Model {
        let [a, b] = addresses(vip).map(|address| address.to_string());
        let (mut model, mut wanted) = (model(), service(vip, &[(&a, 1), (&b, 1)]));
        change(&mut wanted);
        model.add_service(&wanted, &leases()).unwrap();
        model
    }

    fn only(model: &Model) -> &Arc<Service> {
        model.services.values().next().unwrap()
    }

    /// The network says how the two can be reached.
    fn hear(model: &mut Model, vip: &str, reaches: [Reach; 2], at_ms: u64, renews: bool) {
        let outlook: Outlook = addresses(vip).into_iter().zip(reaches).collect();
        model.now_ms = at_ms;
        let id = only(model).id;
        model.take_note(&id, &outlook);
        if renews {
            model.renew_all(&Reachability { outlook: &outlook, resolved: &|_| true });
        }
    }

    fn contacts(model: &Model) -> [Contact; 2] {
        [0, 1].map(|number| only(model).backends[number].contact)
    }

    /// The cases, in the words of the document. Of two backends in different networks, the first is in trouble.
    #[test]
    fn what_counts_as_dead() {
        use Contact::{CutOff, Down, Suspended, Up};
        use Reach::{Answers, Asked, NoLink, Silent};
        let suspended = Suspended { until_ms: HANDOVER_MS };
        let mut rows = Vec::new();
        for (what, reaches, expected) in [
            ("both answer", [Answers, Answers], [Up, Up]),
            ("A is silent, others of its network answer; B answers", [Reach::Down, Answers], [Down, Up]),
            ("A's network is silent; B answers", [Silent, Answers], [suspended, Up]),
            ("the link of A's port is down; B answers", [NoLink, Answers], [suspended, Up]),
            ("A's network is silent, and so is B's", [Silent, Silent], [CutOff, CutOff]),
            ("the link of A's port is down; B's network is silent", [NoLink, Silent], [CutOff, CutOff]),
            ("the links of both ports are down, or of the only one", [NoLink, NoLink], [CutOff, CutOff]),
            ("A is silent, others of its network answer; B's network is silent", [Reach::Down, Silent], [Down, CutOff]),
            ("the same of both", [Reach::Down, Reach::Down], [Down, Down]),
            ("A has not answered yet; B answers", [Asked, Answers], [Up, Up]),
            ("A's network is silent; B has not answered yet", [Silent, Asked], [CutOff, Up]),
        ] {
            for vip in ["192.168.0.101:80", "[fd00::101]:80"] {
                let mut model = two(vip, |_| {});
                hear(&mut model, vip, reaches, 0, true);
                assert_eq!(contacts(&model), expected, "{what}");
                // The same whether the two steps are taken one after the other, or the first for a while.
                let mut at_once = two(vip, |_| {});
                hear(&mut at_once, vip, reaches, 0, false);
                assert_eq!(contacts(&at_once), expected, "{what}, at once");
                let shares = [&model, &at_once].map(|model| only(model).shares());
                assert_eq!(shares[0], shares[1], "{what}, at once");
            }
            let mut model = two("192.168.0.101:80", |_| {});
            hear(&mut model, "192.168.0.101:80", reaches, 0, true);
            let service = only(&model);
            let shares = service.shares();
            let gets = |number: usize| {
                let (share, old) = ((shares[number] * 100.0).round(), service.serves(&service.backends[number]));
                let old = if old { "yes" } else { "no" };
                format!("{share} %, {old}")
            };
            rows.push(vec![what.to_string(), gets(0), gets(1)]);
        }
        let columns = ["what is seen", "A: share of new flows, keeps old flows", "B"];
        docs::check("docs/design/014-what-counts-as-dead.md", "cases", &docs::table(&columns, rows));
    }

    fn owners(model: &Model) -> (Vec<BackendNo>, Vec<BackendNo>) {
        let compiled = crate::testing::model::snapshot(model.clone());
        let entry = &compiled.services[0];
        let slots = 0..entry.table.len();
        (slots.clone().map(|slot| entry.now(slot)).collect(), slots.map(|slot| entry.before(slot)).collect())
    }

    const A: BackendNo = BackendNo::new(0);
    const B: BackendNo = BackendNo::new(1);

    /// The issue that led to this: 511 of 1,021 slots were dropped for as long as anybody watched.
    #[test]
    fn a_backend_that_may_be_dead_loses_its_new_flows_to_one_that_answers_and_keeps_the_old_ones() {
        for vip in ["192.168.0.101:80", "[fd00::101]:80"] {
            for trouble in [Reach::Silent, Reach::NoLink] {
                let mut model = two(vip, |_| {});
                let (at_first, _) = owners(&model);
                assert_eq!(at_first.iter().filter(|&&owner| owner == A).count(), 511);
                for renews in [false, true] {
                    hear(&mut model, vip, [trouble, Reach::Answers], 1_000, renews);
                    let (now, before) = owners(&model);
                    assert!(now.iter().all(|&now| now == B), "renewed: {renews}");
                    let kept = at_first.iter().zip(&before).filter(|(first, before)| **first == A && **before == A);
                    assert_eq!(kept.count(), 511, "renewed: {renews}");
                }
                // It answers again: its flows were never handed over.
                hear(&mut model, vip, [Reach::Answers, Reach::Answers], 60_000, true);
                let (now, before) = owners(&model);
                assert_eq!(now, at_first);
                assert!(before.iter().all(|&before| before == BackendNo::NONE));
            }
        }
    }

    #[test]
    fn what_may_be_dead_for_longer_than_a_hand_over_lasts_is_given_up() {
        let vip = "192.168.0.101:80";
        let mut model = two(vip, |_| {});
        hear(&mut model, vip, [Reach::Silent, Reach::Answers], 0, true);
        assert_eq!(model.due(HANDOVER_MS - 1).count(), 0);
        assert_eq!(model.due(HANDOVER_MS).count(), 1);
        // Being asked again is no reprieve.
        hear(&mut model, vip, [Reach::Asked, Reach::Answers], HANDOVER_MS, true);
        assert_eq!(contacts(&model), [Contact::Lapsed, Contact::Up]);
        assert!(!only(&model).serves(&only(&model).backends[0]));
        // The other one fails, too. Then either may be alive.
        hear(&mut model, vip, [Reach::Silent, Reach::Silent], HANDOVER_MS + 1, true);
        assert_eq!(contacts(&model), [Contact::CutOff; 2]);
        hear(&mut model, vip, [Reach::Silent, Reach::Answers], HANDOVER_MS + 2, true);
        assert_eq!(contacts(&model), [Contact::Suspended { until_ms: 2 * HANDOVER_MS + 2 }, Contact::Up]);
    }

    /// The first one to answer after an outage must not take the flows of the others, which are only slower.
    #[test]
    fn after_an_outage_each_backend_has_time_to_answer() {
        let vip = "192.168.0.101:80";
        let mut model = two(vip, |_| {});
        let (at_first, _) = owners(&model);
        hear(&mut model, vip, [Reach::Silent, Reach::Silent], 0, true);
        assert_eq!(owners(&model).0, at_first, "nobody is taken down");
        for renews in [false, true] {
            hear(&mut model, vip, [Reach::Asked, Reach::Answers], 1_000, renews);
            assert_eq!((contacts(&model), owners(&model).0), ([Contact::CutOff, Contact::Up], at_first.clone()));
        }
        hear(&mut model, vip, [Reach::Down, Reach::Answers], 4_000, true);
        assert_eq!(contacts(&model), [Contact::Down, Contact::Up]);
    }

    #[test]
    fn a_dead_backend_is_dead_until_it_answers() {
        let vip = "192.168.0.101:80";
        let mut model = two(vip, |_| {});
        hear(&mut model, vip, [Reach::Down, Reach::Answers], 0, true);
        for reach in [Reach::NoLink, Reach::Asked, Reach::Silent] {
            hear(&mut model, vip, [reach, Reach::NoLink], 1_000, true);
            assert_eq!(contacts(&model), [Contact::Down, Contact::CutOff], "{reach:?}");
        }
        hear(&mut model, vip, [Reach::Answers, Reach::NoLink], 2_000, true);
        assert_eq!(contacts(&model), [Contact::Up, Contact::Suspended { until_ms: 2_000 + HANDOVER_MS }]);
    }

    /// A datagram does not tell whether its flow is new, so all unknown flows go to the backend that answers.
    #[test]
    fn of_udp_unknown_flows_leave_a_backend_that_may_be_dead_and_come_back() {
        for vip in ["192.168.0.101:53/udp", "[fd00::101]:53/udp"] {
            let mut model = two(vip, |_| {});
            let (at_first, _) = owners(&model);
            for renews in [false, true] {
                hear(&mut model, vip, [Reach::Silent, Reach::Answers], 1_000, renews);
                let (now, before) = owners(&model);
                assert!(now.iter().all(|&now| now == B) && before.iter().all(|&before| before == BackendNo::NONE));
                assert_eq!(only(&model).shares(), [0.0, 1.0]);
                assert!(only(&model).serves(&only(&model).backends[0]), "flows that are remembered stay");
            }
            let mut late = model.clone();
            hear(&mut model, vip, [Reach::Answers, Reach::Answers], 20_000, true);
            assert_eq!(owners(&model), (at_first.clone(), vec![BackendNo::NONE; at_first.len()]), "within 30 s");
            hear(&mut late, vip, [Reach::Silent, Reach::Answers], 31_001, true);
            assert_eq!(contacts(&late)[0], Contact::Lapsed);
            hear(&mut late, vip, [Reach::Answers, Reach::Answers], 40_000, true);
            let (now, before) = owners(&late);
            assert_eq!(now, at_first);
            assert_eq!(before.iter().filter(|&&before| before == B).count(), 511, "a hand-over like any other");
        }
    }

    /// Nobody remembers the flows that have begun at the one that stands in.
    #[test]
    fn of_udp_new_flows_stay_when_a_backend_that_may_be_dead_is_removed_before_the_tables_follow() {
        let vip = "192.168.0.101:53/udp";
        let mut model = two(vip, |wanted| wanted.backends.push(backend("192.168.0.5", 1)));
        hear(&mut model, vip, [Reach::Silent, Reach::Answers], 1_000, false);
        let (stood_in, _) = owners(&model);
        let id = only(&model).id;
        model.remove_backend(&id, addresses(vip)[0]).unwrap();
        let (now, before) = owners(&model);
        for (slot, stood_in) in stood_in.iter().enumerate() {
            // The first one is gone, so the others have smaller numbers.
            let stood_in = BackendNo::new(stood_in.index() - 1);
            assert!(now[slot] == stood_in || before[slot] == stood_in, "slot {slot}");
        }
    }

    /// By slot, whether it waits for a backend that is down.
    fn awaited(model: &Model) -> Vec<bool> {
        let compiled = crate::testing::model::snapshot(model.clone());
        let entry = &compiled.services[0];
        (0..entry.table.len()).map(|slot| entry.is_awaited(slot)).collect()
    }

    #[test]
    fn the_slots_of_a_backend_that_is_down_wait_for_it_as_long_as_a_hand_over_lasts() {
        for vip in ["192.168.0.101:80", "[fd00::101]:80", "192.168.0.101:80/sctp"] {
            let mut model = two(vip, |_| {});
            let at_first = owners(&model).0;
            for renews in [false, true] {
                hear(&mut model, vip, [Reach::Down, Reach::Answers], 1_000, renews);
                let (now, before) = owners(&model);
                assert!(now.iter().all(|&now| now == B) && before.iter().all(|&before| before == BackendNo::NONE));
                let of_a: Vec<bool> = at_first.iter().map(|&first| first == A).collect();
                assert_eq!(awaited(&model), of_a, "renewed: {renews}");
            }
            let (mut late, mut drained, mut removed) = (model.clone(), model.clone(), model.clone());
            hear(&mut model, vip, [Reach::Answers, Reach::Answers], 60_000, true);
            assert_eq!(owners(&model), (at_first.clone(), vec![BackendNo::NONE; at_first.len()]));
            assert!(!awaited(&model).contains(&true));

            hear(&mut late, vip, [Reach::Down, Reach::Answers], HANDOVER_MS + 2_001, true);
            assert!(only(&late).handover.is_none());
            hear(&mut late, vip, [Reach::Answers, Reach::Answers], HANDOVER_MS + 3_000, true);
            assert_eq!(
                owners(&late).1.iter().filter(|&&before| before == B).count(),
                511,
                "a hand-over like any other"
            );

            // The operator drains it while it is down. It is back for its old flows.
            let id = only(&drained).id;
            drained.drain_backend(&id, addresses(vip)[0], None).unwrap();
            assert_eq!(awaited(&drained).iter().filter(|awaited| **awaited).count(), 511);
            hear(&mut drained, vip, [Reach::Answers, Reach::Answers], 60_000, true);
            let (now, before) = owners(&drained);
            assert!(now.iter().all(|&now| now == B));
            assert_eq!(before.iter().filter(|&&before| before == A).count(), 511);

            removed.remove_backend(&id, addresses(vip)[0]).unwrap();
            assert!(only(&removed).handover.is_none() && !awaited(&removed).contains(&true));
        }
    }

    #[test]
    fn without_tracking_nothing_is_kept() {
        let vip = "192.168.0.101:53/udp";
        let mut model = two(vip, |wanted| wanted.tracking = Some(Tracking::None));
        hear(&mut model, vip, [Reach::Silent, Reach::Answers], 0, true);
        assert_eq!(contacts(&model), [Contact::Lapsed, Contact::Up]);
        hear(&mut model, vip, [Reach::Silent, Reach::Silent], 0, true);
        assert_eq!(contacts(&model), [Contact::CutOff, Contact::CutOff]);
    }

    #[test]
    fn all_get_their_flows_as_if_up_only_where_all_are_surely_dead() {
        let vip = "192.168.0.101:80";
        let mut model = two(vip, |wanted| wanted.on_all_down = OnAllDown::All);
        let (at_first, _) = owners(&model);
        hear(&mut model, vip, [Reach::Down, Reach::Silent], 0, true);
        assert_eq!(contacts(&model), [Contact::Down, Contact::CutOff]);
        assert!(owners(&model).0.iter().all(|&now| now == B), "that one may be alive");
        hear(&mut model, vip, [Reach::Down, Reach::Down], 0, true);
        assert_eq!(owners(&model).0, at_first);
    }

    /// A backend that takes no new flows is none to fail over to.
    #[test]
    fn a_drained_backend_does_not_stand_in() {
        let vip = "192.168.0.101:80";
        let mut model = two(vip, |_| {});
        let (id, [_, b]) = (only(&model).id, addresses(vip));
        model.drain_backend(&id, b, None).unwrap();
        hear(&mut model, vip, [Reach::Silent, Reach::Answers], 0, true);
        assert_eq!(contacts(&model), [Contact::CutOff, Contact::Up]);
        assert!(owners(&model).0.iter().all(|&now| now == A));
        model.enable_backend(&id, b).unwrap();
        hear(&mut model, vip, [Reach::Silent, Reach::Answers], 0, true);
        assert!(owners(&model).0.iter().all(|&now| now == B));
    }

    #[test]
    fn a_pinned_mac_address_needs_no_answer_but_a_link() {
        let vip = "192.168.0.101:80";
        let mut model = two(vip, |wanted| {
            wanted.backends[0] = ctl::request::BackendSpec {
                mac: Some("02:00:00:00:00:03".parse().unwrap()),
                ..backend("192.168.0.3", 1)
            };
        });
        for reach in [Reach::Silent, Reach::Down, Reach::Asked] {
            hear(&mut model, vip, [reach, Reach::Answers], 0, true);
            assert_eq!(contacts(&model)[0], Contact::Up, "{reach:?}");
        }
        hear(&mut model, vip, [Reach::NoLink, Reach::Answers], 0, true);
        assert_eq!(contacts(&model)[0], Contact::Suspended { until_ms: HANDOVER_MS });
    }
}
