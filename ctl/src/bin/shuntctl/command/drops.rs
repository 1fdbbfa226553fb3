//! `shuntctl drops`.

use ctl::answer::{Drop, Fate};
use ctl::verb;

use crate::question::Question;
use crate::table::line;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show the reasons that have not occurred, too.
    #[arg(short, long)]
    all: bool,

    /// Show how many each worker had.
    #[arg(short, long)]
    worker: bool,
}

impl Args {
    pub(super) fn question(self) -> Question {
        Question::new::<verb::Drops>((), move |reasons| listing(&reasons, self.all, self.worker))
    }
}

fn listing(reasons: &[Drop], all: bool, by_worker: bool) -> String {
    let shown: Vec<&Drop> = reasons.iter().filter(|reason| all || reason.packets > 0).collect();
    if shown.is_empty() {
        return "Nothing dropped, nothing given to the slow path\n".into();
    }
    let mut text = String::new();
    let titles = [
        (Fate::Drop, "Dropped"),
        (Fate::Punt, "Given to the slow path"),
        (Fate::Unsent, "Of the director's own frames, not sent"),
    ];
    for (fate, title) in titles {
        let group: Vec<&&Drop> = shown.iter().filter(|reason| reason.fate == fate).collect();
        if group.is_empty() {
            continue;
        }
        line(&mut text, format_args!("{title}:"));
        for reason in group {
            let ports: Vec<String> =
                reason.ports.iter().map(|count| format!("{} on {}", count.packets, count.port)).collect();
            let ports = if ports.len() > 1 { format!(" ({})", ports.join(", ")) } else { String::new() };
            line(&mut text, format_args!("{:>14}  {:<20} {}{ports}", reason.packets, reason.reason, reason.meaning));
            let mut more = |sentence: String| line(&mut text, format_args!("{:>14}  {:<20} {sentence}", "", ""));
            if fate != Fate::Punt {
                more(format!("→ {}", reason.advice));
            }
            if by_worker && reason.packets > 0 {
                more(workers_of(reason));
            }
            if !reason.services.is_empty() {
                more(format!("of services: {}", services_of(reason)));
            }
        }
    }
    text
}

fn workers_of(reason: &Drop) -> String {
    let workers = reason.workers.iter().map(|count| format!("worker {}: {}", count.worker, count.packets));
    workers.collect::<Vec<_>>().join(", ")
}

fn services_of(reason: &Drop) -> String {
    let services = reason.services.iter().map(|count| format!("{} of {}", count.packets, count.service));
    let more = Some(format!("… and {} more services", reason.more_services)).filter(|_| reason.more_services > 0);
    services.chain(more).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::assert_lines;

    #[test]
    fn commands_become_requests() {
        assert_lines(&[
            ("drops", r#""drops""#),
            ("drops --all", r#""drops""#),
            ("drops -w", r#""drops""#),
            ("drops -a -w", r#""drops""#),
        ]);
    }

    #[test]
    fn drops_name_workers_and_services() {
        let reasons: Vec<Drop> = serde_json::from_str(
            r#"[{"reason":"no_backend","fate":"drop","packets":12,"ports":[{"port":"lan0","packets":12}],
            "workers":[{"worker":0,"packets":5},{"worker":2,"packets":7}],
            "services":[{"service":{"vip":"192.0.2.1","port":80},"packets":8},
            {"service":{"vip":"192.0.2.2","port":53,"protocol":"udp"},"packets":3}],"more_services":1,
            "meaning":"None.","advice":"Add one."},
            {"reason":"ring_full","fate":"unsent","packets":3,"ports":[{"port":"lan0","packets":3}],
            "meaning":"No room.","advice":"Look."}]"#,
        )
        .unwrap();
        let text = listing(&reasons, false, true);
        assert!(text.contains("worker 0: 5, worker 2: 7\n"), "{text}");
        assert!(text.contains("8 of 192.0.2.1:80/tcp, 3 of 192.0.2.2:53/udp, … and 1 more services\n"), "{text}");
        assert!(!listing(&reasons, false, false).contains("worker 0"));
        let own = "Of the director's own frames, not sent:\n             3  ring_full            No room.\n";
        assert!(text.contains(own) && text.contains("→ Look.\n"), "{text}");
    }
}
