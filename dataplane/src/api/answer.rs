//! From a request to its answer.

use ctl::answer::{Answer, Outcome};
use ctl::request::Request;

use crate::api::facts::Facts;
use crate::api::{network, reasons, services, status};

/// Carries out a request.
pub fn answer(facts: &Facts, request: Request) -> Outcome {
    let answer = match request {
        Request::Status => Ok(Answer::Status(status::status(facts))),
        Request::WorkerList => Ok(Answer::Workers(status::workers(facts))),
        Request::PortList => Ok(Answer::Ports(network::ports(facts))),
        Request::NeighborList => Ok(Answer::Neighbors(network::neighbors(facts))),
        Request::Drops => Ok(Answer::Drops(reasons::drops(facts))),
        Request::Events(query) => Ok(Answer::Events(facts.events.list(query))),
        Request::ServiceList => Ok(Answer::Services(services::list(facts))),
        Request::ServiceShow(id) => services::show(facts, &id).map(Answer::Service),
        Request::ServiceAdd(add) => services::add(facts, &add).map(Answer::Done),
        Request::ServiceRemove(id) => services::remove(facts, &id).map(Answer::Done),
        Request::BackendAdd(add) => services::add_backend(facts, &add).map(Answer::Done),
        Request::BackendEdit(edit) => services::edit_backend(facts, &edit).map(Answer::Done),
        Request::BackendDrain(drain) => services::drain_backend(facts, &drain).map(Answer::Done),
        Request::BackendEnable(name) => services::enable_backend(facts, &name).map(Answer::Done),
        Request::BackendRemove(remove) => services::remove_backend(facts, &remove).map(Answer::Done),
    };
    answer.map_or_else(Outcome::Error, Outcome::Ok)
}
