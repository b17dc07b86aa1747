//! What is to be done next with the certificate. Pure.
//!
//! A change of authority takes four steps, and between any two of them every handshake succeeds, whichever replica
//! answers it and however late a replica or an API server hears of the step: *prepare* (the next pair is made, its
//! authority trusted beside the old one), *promote* (it is served, once both are trusted everywhere), *drop* (the old
//! authority, once every replica serves the new pair). The step is derived from what is stored, so that another
//! replica can go on where one has stopped.

use std::time::Duration;

use jiff::Timestamp;

/// What is stored and how long it has been so.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// From when the current certificate is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Whether it is for all names that are asked for.
    pub covers_names: bool,
    /// Until when the next one is valid, where there is a next one.
    pub next_not_after: Option<Timestamp>,
    /// How many authorities are trusted.
    pub trusted: usize,
    /// How long exactly this has been stored and been trusted by the API server; none if it is not trusted yet.
    pub settled_for: Option<Duration>,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is nothing that could be served: make a pair and serve it at once.
    Mint,
    /// Make the next pair and have its authority trusted.
    Prepare,
    /// Serve the next pair.
    Promote,
    /// Trust only the newest authority.
    Drop,
    /// Nothing.
    Rest,
}

/// What is to be done, if a step needs `settle` to reach every replica and API server.
pub fn step(seen: Option<Seen>, now: Timestamp, settle: Duration) -> Step {
    let Some(seen) = seen else { return Step::Mint };
    let has_settled = seen.settled_for.is_some_and(|settled| settled >= settle);
    // The wall clock, not a timer: a machine that slept wakes up to this.
    let has_expired = now >= seen.not_after;
    if let Some(next) = seen.next_not_after {
        return match (now >= next, has_expired || has_settled) {
            (true, _) => Step::Mint,
            (false, true) => Step::Promote,
            (false, false) => Step::Rest,
        };
    }
    if has_expired {
        Step::Mint
    } else if seen.trusted > 1 && has_settled {
        Step::Drop
    } else if is_due(seen, now) || !seen.covers_names && seen.trusted == 1 {
        Step::Prepare
    } else {
        Step::Rest
    }
}

/// Whether two thirds of its life are over.
fn is_due(seen: Seen, now: Timestamp) -> bool {
    let life = seen.not_after.as_second() - seen.not_before.as_second();
    now.as_second() >= seen.not_after.as_second() - life / 3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{Seen, Step, step};

    const SETTLE: Duration = Duration::from_mins(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen() -> Seen {
        Seen {
            not_before: at(0),
            not_after: at(9000),
            covers_names: true,
            next_not_after: None,
            trusted: 1,
            settled_for: Some(SETTLE),
        }
    }

    #[test]
    fn the_steps() {
        let unsettled = Some(Duration::from_secs(59));
        for (what, seen, now, expected) in [
            ("nothing is stored", None, 0, Step::Mint),
            ("it is fresh", Some(seen()), 5999, Step::Rest),
            (
                "two thirds of its life are over",
                Some(seen()),
                6000,
                Step::Prepare,
            ),
            ("it has expired while nobody ran", Some(seen()), 9000, Step::Mint),
            (
                "another name is asked for",
                Some(Seen {
                    covers_names: false,
                    ..seen()
                }),
                10,
                Step::Prepare,
            ),
            (
                "the next one is not trusted yet",
                Some(Seen {
                    next_not_after: Some(at(15_000)),
                    trusted: 2,
                    settled_for: None,
                    ..seen()
                }),
                6100,
                Step::Rest,
            ),
            (
                "the next one is trusted by some",
                Some(Seen {
                    next_not_after: Some(at(15_000)),
                    trusted: 2,
                    settled_for: unsettled,
                    ..seen()
                }),
                6100,
                Step::Rest,
            ),
            (
                "the next one is trusted by all",
                Some(Seen {
                    next_not_after: Some(at(15_000)),
                    trusted: 2,
                    ..seen()
                }),
                6100,
                Step::Promote,
            ),
            (
                "nobody trusts the next one, but the current one has expired",
                Some(Seen {
                    next_not_after: Some(at(15_000)),
                    trusted: 2,
                    settled_for: None,
                    ..seen()
                }),
                9000,
                Step::Promote,
            ),
            (
                "both have expired",
                Some(Seen {
                    next_not_after: Some(at(9001)),
                    trusted: 2,
                    ..seen()
                }),
                9001,
                Step::Mint,
            ),
            (
                "some replicas may still serve the old one",
                Some(Seen {
                    trusted: 2,
                    settled_for: unsettled,
                    ..seen()
                }),
                100,
                Step::Rest,
            ),
            (
                "all serve the new one",
                Some(Seen { trusted: 2, ..seen() }),
                100,
                Step::Drop,
            ),
            (
                "the old authority could not be dropped, and the time has come again",
                Some(Seen {
                    trusted: 2,
                    settled_for: None,
                    ..seen()
                }),
                6000,
                Step::Prepare,
            ),
        ] {
            assert_eq!(step(seen, at(now), SETTLE), expected, "{what}");
        }
    }
}
