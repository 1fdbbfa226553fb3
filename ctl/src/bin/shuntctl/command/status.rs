//! `shuntctl status`.

use ctl::answer::{Count, EventCount, Fault, FaultCount, Status};
use ctl::verb;

use crate::question::Question;
use crate::table::{duration, line};

pub(super) fn question() -> Question {
    Question::new::<verb::Status>((), |status| listing(&status))
}

fn listing(status: &Status) -> String {
    let of = |Count { total, up }: Count, what: &str| format!("{up} of {total} {what}");
    let memory = if status.hugepages { "hugepages" } else { "plain pages" };
    let rows = [
        ("shuntd", format!("{} on {}, pid {}", status.version, status.dpdk, status.pid)),
        ("up for", duration(status.uptime_s)),
        ("configuration", status.config_file.clone()),
        ("memory", memory.into()),
        ("packet buffers", format!("{} of {} in use", status.packet_buffers.in_use, status.packet_buffers.total)),
        ("snapshot", status.generation.to_string()),
        ("workers", status.workers.to_string()),
        ("ports", of(status.ports, "up")),
        ("services", of(status.services, "with a reachable backend")),
        ("backends", of(status.backends, "reachable")),
        ("received", format!("{} frames", status.rx_packets)),
        ("forwarded", format!("{} frames", status.forwarded_packets)),
        ("dropped", format!("{} frames (shuntctl drops)", status.dropped_packets)),
        ("events", event_count(status.events)),
        ("faults", fault_count(status.fault_count)),
    ];
    let mut all = String::new();
    for (name, value) in rows {
        line(&mut all, format_args!("{name:<14} {value}"));
    }
    for Fault { severity, fault, for_s, text, .. } in &status.faults {
        let (severity, age) = (severity.name(), duration(*for_s));
        line(&mut all, format_args!("{:<14} {severity:<5}  {fault}, for {age}: {text}", ""));
    }
    if status.warnings.is_empty() {
        line(&mut all, format_args!("{:<14} none", "warnings"));
    }
    for (number, warning) in status.warnings.iter().enumerate() {
        let name = if number == 0 { "warnings" } else { "" };
        line(&mut all, format_args!("{name:<14} {warning}"));
    }
    all
}

fn fault_count(FaultCount { warn, error, left_out }: FaultCount) -> String {
    let more = if left_out > 0 { format!(", and {left_out} that there was no room for") } else { String::new() };
    match (warn, error) {
        (0, 0) => format!("none open{more}"),
        (warn, error) => format!("errors: {error}, warnings: {warn} open{more} (shuntctl doctor)"),
    }
}

fn event_count(EventCount { warn, error }: EventCount) -> String {
    match (warn, error) {
        (0, 0) => "no warnings or errors in the last hour".into(),
        (warn, error) => format!("warnings: {warn}, errors: {error} in the last hour (shuntctl events)"),
    }
}

#[cfg(test)]
mod tests {
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[("status", r#""status""#)]);
    }
}
