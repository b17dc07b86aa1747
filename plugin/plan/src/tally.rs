//! What monitoring is told about the backups of a cluster.
//!
//! Pure. In come all backups and runs that are known at a look; out go the ends that are new since the look before ([`Tally`])
//! and how each schedule stands ([`Standing`]). Later code may rely on: an end counts once however often it is seen, what
//! ended before the counting began never counts (Velero's counters begin at zero too), and a run that failed counts only
//! where no backup of it tells the same story.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use velero_model::phase::Phase;

/// A stored backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Something that no other backup has.
    pub id: String,
    /// Its schedule; empty for one that was made by hand.
    pub schedule: String,
    /// How it ended.
    pub phase: Phase,
    /// Begin.
    pub started: Option<Timestamp>,
    /// End.
    pub ended: Option<Timestamp>,
    /// Objects in it.
    pub items: u64,
    /// Errors.
    pub errors: u64,
    /// Warnings.
    pub warnings: u64,
}

/// A run of a schedule in the cluster: a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its name.
    pub id: String,
    /// Its schedule.
    pub schedule: String,
    /// Begin.
    pub started: Option<Timestamp>,
    /// End; `None` while it runs.
    pub ended: Option<Timestamp>,
    /// Whether it failed.
    pub has_failed: bool,
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `Completed`.
    Success,
    /// `PartiallyFailed`.
    PartialFailure,
    /// Anything else.
    Failure,
}

/// An end that is new.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// Schedule, or empty.
    pub schedule: String,
    /// How.
    pub end: End,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
    /// Whether there were warnings.
    pub is_warned: bool,
}

/// What was counted already.
#[derive(Debug, Clone)]
pub struct Tally {
    since: Timestamp,
    counted: BTreeSet<String>,
}

/// How far the clocks of a pod and of the API server may be apart.
const CLOCKS: SignedDuration = SignedDuration::from_secs(10);

impl Tally {
    /// Counts what ends from now on. Ends are stored in whole seconds, so the second that has begun counts.
    pub fn new(since: Timestamp) -> Self {
        Self {
            since: Timestamp::from_second(since.as_second()).unwrap_or(since),
            counted: BTreeSet::new(),
        }
    }

    /// The ends that were not there at the last look.
    pub fn look(&mut self, made: &[Made], ran: &[Ran]) -> Vec<News> {
        let ends = made
            .iter()
            .filter_map(|backup| {
                let news = News {
                    schedule: backup.schedule.clone(),
                    end: end_of(&backup.phase)?,
                    seconds: seconds(backup.started, backup.ended),
                    is_warned: backup.warnings > 0,
                };
                Some((format!("backup/{}", backup.id), backup.ended?, news))
            })
            .chain(ran.iter().filter(|run| is_alone(run, made)).filter_map(|run| {
                let news = News {
                    schedule: run.schedule.clone(),
                    end: End::Failure,
                    seconds: None,
                    is_warned: false,
                };
                Some((format!("run/{}", run.id), run.ended?, news))
            }));
        let mut news = Vec::new();
        for (id, ended, found) in ends {
            if ended >= self.since && self.counted.insert(id) {
                news.push(found);
            }
        }
        news
    }
}

/// A run that failed and left no backup behind.
fn is_alone(run: &Ran, made: &[Made]) -> bool {
    let (Some(from), Some(to)) = (run.started, run.ended) else {
        return false;
    };
    let tells = |backup: &Made| {
        // A good backup shortly before says nothing about this run, one that is not good may well be its own.
        let apart = if backup.phase == Phase::Completed {
            SignedDuration::ZERO
        } else {
            CLOCKS
        };
        backup.schedule == run.schedule
            && backup
                .started
                .is_some_and(|at| at.duration_since(from) >= -apart && to.duration_since(at) >= -apart)
    };
    run.has_failed && !made.iter().any(tells)
}

fn end_of(phase: &Phase) -> Option<End> {
    match phase {
        Phase::Completed => Some(End::Success),
        Phase::PartiallyFailed => Some(End::PartialFailure),
        Phase::InProgress => None,
        Phase::Failed | Phase::Other(_) => Some(End::Failure),
    }
}

fn seconds(started: Option<Timestamp>, ended: Option<Timestamp>) -> Option<f64> {
    // A clock that was set back in between makes no negative time.
    Some(ended?.duration_since(started?).as_secs_f64().max(0.0))
}

/// How a schedule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// End of its newest Completed backup.
    pub last_success: Option<Timestamp>,
    /// Whether the last end was a success; so it is as long as there was none.
    pub is_good: bool,
    /// Its newest backup.
    pub newest: Option<Made>,
}

impl Standing {
    /// Of one schedule; the empty name is that of backups made by hand.
    pub fn of(schedule: &str, made: &[Made], ran: &[Ran]) -> Self {
        let own = || made.iter().filter(|backup| backup.schedule == schedule);
        let ended = own().filter(|backup| end_of(&backup.phase).is_some());
        let newest = ended.max_by_key(|backup| (backup.ended, &backup.id)).cloned();
        let failed = ran
            .iter()
            .filter(|run| run.schedule == schedule && is_alone(run, made))
            .filter_map(|run| run.ended)
            .max();
        let is_good = match (&newest, failed) {
            (None, failed) => failed.is_none(),
            (Some(newest), failed) => {
                newest.phase == Phase::Completed && failed.is_none_or(|failed| newest.ended >= Some(failed))
            }
        };
        Self {
            last_success: own()
                .filter(|backup| backup.phase == Phase::Completed)
                .filter_map(|backup| backup.ended)
                .max(),
            is_good,
            newest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    fn made(id: &str, phase: Phase, minute: i64) -> Made {
        Made {
            id: id.into(),
            schedule: "nightly".into(),
            phase,
            started: Some(at(minute)),
            ended: Some(at(minute + 1)),
            items: 3,
            errors: 0,
            warnings: 0,
        }
    }

    fn ran(id: &str, minute: i64, has_failed: bool) -> Ran {
        Ran {
            id: id.into(),
            schedule: "nightly".into(),
            started: Some(at(minute)),
            ended: Some(at(minute + 2)),
            has_failed,
        }
    }

    #[test]
    fn each_end_counts_once_and_only_from_the_beginning_on() {
        let mut tally = Tally::new(at(10));
        let mut backups = vec![
            made("old", Phase::Completed, 1),
            made("new", Phase::Completed, 20),
        ];
        let news = tally.look(&backups, &[]);
        assert_eq!(news.len(), 1);
        assert_eq!((news[0].end, news[0].seconds), (End::Success, Some(60.0)));
        assert!(tally.look(&backups, &[]).is_empty());
        backups.push(made("half", Phase::PartiallyFailed, 30));
        backups.push(made("busy", Phase::InProgress, 30));
        assert_eq!(tally.look(&backups, &[])[0].end, End::PartialFailure);
        // A location that is away for a while, or retention, changes nothing.
        assert!(tally.look(&[], &[]).is_empty());
        assert!(tally.look(&backups, &[]).is_empty());
    }

    #[test]
    fn an_end_in_the_second_of_the_beginning_counts() {
        let mut tally = Tally::new(at(11) + SignedDuration::from_millis(700));
        assert_eq!(tally.look(&[made("a", Phase::Completed, 10)], &[]).len(), 1);
    }

    #[test]
    fn a_failed_run_counts_where_no_backup_tells_of_it() {
        let mut tally = Tally::new(at(0));
        let backups = [made("half", Phase::PartiallyFailed, 10)];
        let runs = [
            ran("told", 10, true),
            ran("untold", 40, true),
            ran("good", 50, false),
        ];
        // A good one by hand a moment before the run is another story.
        let by_hand = made("good", Phase::Completed, 40);
        let before = Made {
            started: by_hand.started.map(|at| at - SignedDuration::from_secs(5)),
            ..by_hand
        };
        assert!(is_alone(&runs[1], &[before]));
        let ends: Vec<_> = tally
            .look(&backups, &runs)
            .into_iter()
            .map(|news| news.end)
            .collect();
        assert_eq!(ends, [End::PartialFailure, End::Failure]);
        assert!(tally.look(&backups, &runs).is_empty());
    }

    #[test]
    fn a_clock_that_jumps_back_makes_no_negative_time() {
        let mut tally = Tally::new(at(0));
        let mut jumped = made("jumped", Phase::Completed, 20);
        jumped.ended = Some(at(5));
        assert_eq!(tally.look(&[jumped], &[])[0].seconds, Some(0.0));
    }

    #[test]
    fn how_a_schedule_stands() {
        let good = made("good", Phase::Completed, 10);
        let half = made("half", Phase::PartiallyFailed, 20);
        let table = [
            (vec![], vec![], None, true),
            (vec![], vec![ran("r", 5, true)], None, false),
            (vec![good.clone()], vec![ran("r", 5, true)], Some(11), true),
            (vec![good.clone()], vec![ran("r", 30, true)], Some(11), false),
            (vec![good, half.clone()], vec![], Some(11), false),
            (vec![half], vec![ran("r", 20, true)], None, false),
        ];
        for (number, (made, ran, last, is_good)) in table.into_iter().enumerate() {
            let standing = Standing::of("nightly", &made, &ran);
            assert_eq!(
                (standing.last_success, standing.is_good),
                (last.map(at), is_good),
                "row {number}"
            );
            assert!(Standing::of("other", &made, &ran).newest.is_none());
        }
    }
}
