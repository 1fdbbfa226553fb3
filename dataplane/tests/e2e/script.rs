//! Commands of the operator: checks of type `script`, and `notify`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ctl::answer::{BackendState, Event};
use ctl::request::{Request, ServiceAdd};
use ctl::{Client, ClientError};
use dataplane::dpdk::Driver;

use crate::lab::{Lab, Topology, VIP, VIP6, by_server, service_id, wait_for};

/// A folder that any user may write to.
fn folder(lab: &Lab) -> PathBuf {
    let folder = lab.folder().join("scripts");
    fs::create_dir_all(&folder).unwrap();
    for (folder, mode) in [(lab.folder(), 0o755), (&folder, 0o777)] {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

/// Writes a script that any user may run.
fn script(lab: &Lab, name: &str, text: &str) -> PathBuf {
    let path = folder(lab).join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until rs1 of both services is in this state, and its check has these words.
fn wait_for_rs1(lab: &Lab, state: BackendState, words: &str) {
    wait_for(&format!("rs1 is {state:?} by \"{words}\""), || {
        [(VIP, "192.168.0.3"), (VIP6, "fd00::3")].iter().all(|(vip, rs1)| {
            let backend = lab.backend(vip, rs1);
            backend.state == state && backend.checks.first().is_some_and(|check| check.words == words)
        })
    });
}

#[test]
fn a_script_says_which_backends_serve() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.configure_daemon([1, 1], Driver::Auto, "");
    // What it says of a backend stands in a file of its address.
    let text = r#"cd "$(dirname "$0")"; cat "$SHUNT_BACKEND" 2>/dev/null; [ ! -s "$SHUNT_BACKEND" ] || exit 2; id -un"#;
    let path = script(&lab, "check", text);
    let check = format!("check = {{ type = \"script\", command = \"{}\", interval = \"500ms\" }}", path.display());
    lab.configure_services(&check);
    lab.restart();
    wait_for_rs1(&lab, BackendState::Up, "exit status 0: nobody");

    let said = ["192.168.0.3", "fd00::3"].map(|backend| folder(&lab).join(backend));
    said.iter().for_each(|file| fs::write(file, "disk full\n").unwrap());
    wait_for_rs1(&lab, BackendState::Down, "exit status 2: disk full");
    for vip in [VIP, VIP6] {
        assert_eq!(by_server(&lab.requests(vip, 20)).into_keys().collect::<Vec<_>>(), ["rs2"], "{vip}");
    }
    let events = lab.events("backend-down");
    assert!(events.len() == 2 && events.iter().all(|event| event.message.contains("disk full")), "{events:?}");
    assert_eq!(lab.events("wrong-answer").len(), 2);

    said.iter().for_each(|file| fs::remove_file(file).unwrap());
    wait_for_rs1(&lab, BackendState::Up, "exit status 0: nobody");
    for vip in [VIP, VIP6] {
        assert_eq!(by_server(&lab.requests(vip, 40)).into_keys().collect::<Vec<_>>(), ["rs1", "rs2"], "{vip}");
    }

    // A script that hangs is a failure, and leaves nothing behind when the daemon ends, however it ends.
    script(&lab, "check", &format!("echo $$ >> {}; sleep 1000", folder(&lab).join("pids").display()));
    fs::write(folder(&lab).join("pids"), "").unwrap();
    fs::set_permissions(folder(&lab).join("pids"), fs::Permissions::from_mode(0o666)).unwrap();
    wait_for_rs1(&lab, BackendState::Down, "did not end in 500ms");
    lab.end_daemon(nix::sys::signal::Signal::SIGKILL);
    let pids = fs::read_to_string(folder(&lab).join("pids")).unwrap();
    let is_there = |pid: &&str| fs::exists(format!("/proc/{pid}")).unwrap();
    assert!(pids.lines().count() > 4);
    wait_for("no script is left", || pids.lines().filter(is_there).count() == 0);
}

#[test]
fn a_script_that_is_not_there_is_refused() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    lab.start([1, 1]);
    let mut add = ServiceAdd::new(service_id(VIP), Vec::new());
    add.service.port = "81".parse().unwrap();
    let refusal = |lab: &Lab, add: &ServiceAdd, command: &str| {
        let check = format!("script command={command}").parse().unwrap();
        let add = ServiceAdd { checks: Some(vec![check]), ..add.clone() };
        match Client::connect(&lab.socket()).unwrap().ask(Request::ServiceAdd(add)) {
            Err(ClientError::Refused(refusal)) => (refusal.field, refusal.message),
            other => panic!("{other:?}"),
        }
    };
    let (field, message) = refusal(&lab, &add, "/not/there");
    assert_eq!((field.as_str(), message.as_str()), ("checks[0].command", "There is no file /not/there"));
    let plain = lab.folder().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let (_, message) = refusal(&lab, &add, plain.to_str().unwrap());
    assert!(message.contains("is not executable: `chmod +x"), "{message}");
    // The user without privileges may not run it: that is what the check says.
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o700)).unwrap();
    let check = format!("script command={}", plain.display()).parse().unwrap();
    add.checks = Some(vec![check]);
    add.backends = vec![serde_json::from_str(r#"{"address": "192.168.0.3"}"#).unwrap()];
    let id = add.service;
    lab.ask(Request::ServiceAdd(add));
    wait_for("the check cannot be run", || {
        let ctl::answer::Answer::Service(service) = lab.ask(Request::ServiceShow(id)) else { panic!() };
        service.backends[0].checks.first().is_some_and(|check| check.words == "cannot be run: Permission denied")
    });
}

#[test]
fn notify_has_the_event_of_a_backend_that_is_down() {
    let Some(mut lab) = Lab::new(Topology::Segment) else { return };
    let told = folder(&lab).join("told");
    let text = format!("id -un >> {0}.user; cat >> {0}; echo said; exit 1", told.display());
    let path = script(&lab, "tell", &text);
    lab.configure_daemon([1, 1], Driver::Auto, &format!("notify = \"{}\"\n", path.display()));
    lab.restart();
    wait_for("rs1 is up by its check", || {
        [(VIP, "192.168.0.3"), (VIP6, "fd00::3")]
            .iter()
            .all(|(vip, rs1)| lab.backend(vip, rs1).checks.first().is_some_and(|check| check.up == Some(true)))
    });
    lab.stop_nginx("rs1");
    let events = |lab: &Lab| -> Vec<Event> {
        let lines = fs::read_to_string(folder(lab).join("told")).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    wait_for("both backends that are down were told", || {
        events(&lab).iter().filter(|event| event.kind == "backend-down").count() == 2
    });
    let told = events(&lab);
    assert!(
        told.is_sorted_by_key(|event| event.sequence) && told.iter().all(|event| event.kind != "started"),
        "{told:?}"
    );
    let down = lab.events("backend-down");
    assert!(told.iter().filter(|event| event.kind == "backend-down").eq(&down), "{told:?}");
    let users = fs::read_to_string(folder(&lab).join("told.user")).unwrap();
    assert!(users.lines().all(|user| user == "nobody"), "{users}");
    wait_for("the log says that the command failed", || lab.logged().contains("exit status 1: said"));
}
