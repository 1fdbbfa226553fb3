//! Schedulers: one table, from which come the type, its words, and the lists in help texts and error messages.

use crate::name::error::{NameError, Words};
use crate::name::words::{serde_as_text, words};

/// Makes [`Scheduler`] from the table below.
macro_rules! schedulers {
    ($($(#[$about:meta])* $variant:ident = $word:literal, by_flow: $by_flow:literal, note: $note:literal;)*) => {
        /// How a service chooses the backend of a new flow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub enum Scheduler {
            $($(#[$about])* $variant),*
        }

        impl Scheduler {
            /// All of them.
            pub const ALL: &'static [Scheduler] = &[$(Scheduler::$variant),*];

            /// Whether the choice depends on more than the flow itself, so that it must be remembered.
            pub fn decides_by_flow(self) -> bool {
                match self { $(Scheduler::$variant => $by_flow),* }
            }

            /// What a list of schedulers says about it in brackets; empty where its name says enough.
            fn note(self) -> &'static str {
                match self { $(Scheduler::$variant => $note),* }
            }
        }

        words!(Scheduler, Scheduler, $($variant = $word),*);
    };
}

schedulers! {
    /// Maglev's consistent hashing over the 5-tuple (ipvsadm calls it `mh`), weighted.
    #[default]
    Maglev = "maglev", by_flow: false, note: "";
    /// The same over the client's address alone, so that a client always gets the same backend (persistence).
    Sh = "sh", by_flow: false, note: "by the client's address";
    /// Smooth weighted round-robin, flow by flow.
    Wrr = "wrr", by_flow: true, note: "";
    /// Round-robin, flow by flow; weights above 0 are all the same.
    Rr = "rr", by_flow: true, note: "";
    /// The backend with the fewest connections for its weight.
    Wlc = "wlc", by_flow: true, note: "";
    /// The backend with the fewest connections.
    Lc = "lc", by_flow: true, note: "";
}

serde_as_text!(Scheduler);

impl Scheduler {
    /// All of them for a help text: `maglev; sh (by the client's address); or flow by flow: wrr, rr`.
    pub fn choices() -> String {
        let list = |by_flow: bool, between: &str| {
            let listed = Scheduler::ALL.iter().filter(|scheduler| scheduler.decides_by_flow() == by_flow);
            let noted = listed.map(|scheduler| match scheduler.note() {
                "" => scheduler.to_string(),
                note => format!("{scheduler} ({note})"),
            });
            noted.collect::<Vec<_>>().join(between)
        };
        format!("{}; or flow by flow: {}", list(false, "; "), list(true, ", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_is_read_as_it_is_written_and_named_where_another_is_not_known() {
        let refusal = "lblc".parse::<Scheduler>().unwrap_err().to_string();
        for scheduler in Scheduler::ALL {
            let word = scheduler.to_string();
            assert_eq!(word.parse(), Ok(*scheduler));
            assert!(refusal.contains(&word) && Scheduler::choices().contains(&word), "{word}: {refusal}");
        }
        assert!(refusal.starts_with("Scheduler \"lblc\" is not known: use maglev, sh, "), "{refusal}");
    }
}
