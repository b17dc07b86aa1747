//! The figures by name: Velero's under `velero_`, what Velero has no name for under `kubectl_backup_`.
//!
//! In comes an overview, out goes the text of a scrape. Counters grow by what is new; gauges and the labels of schedules and
//! locations that are gone are replaced as a whole.

use std::sync::atomic::AtomicU64;

use backup_engine::overview::Overview;
use backup_plan::tally::{End, Made, Standing, Tally};
use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Schedule {
    schedule: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Location {
    backup_location_name: String,
}

type Count = Family<Schedule, Counter>;
type Level = Family<Schedule, Gauge>;
type OfLocation = Family<Location, Gauge>;

/// All of them.
pub(super) struct Families {
    registry: Registry,
    backup_total: Gauge,
    restore_total: Gauge,
    attempts: Count,
    successes: Count,
    partial_failures: Count,
    failures: Count,
    warnings: Count,
    duration: Family<Schedule, Histogram, fn() -> Histogram>,
    last_success: Level,
    last_status: Level,
    items: Level,
    item_errors: Level,
    size: Level,
    interval: Family<Schedule, Gauge<f64, AtomicU64>>,
    restore_attempts: Count,
    restore_successes: Count,
    restore_partial_failures: Count,
    restore_failures: Count,
    location_status: OfLocation,
    location_seen: OfLocation,
    unreadable: OfLocation,
    overdue: OfLocation,
    of_others: OfLocation,
    schedules: Gauge,
    status: Family<Standings, Gauge>,
    looked: Gauge,
    failed_looks: Counter,
    claims: Family<Claims, Gauge>,
}

/// Claims by whether a pod opts them in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Claims {
    chosen: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Standings {
    schedule: String,
    status: &'static str,
}

impl Families {
    pub(super) fn new() -> Self {
        let mut families = Self {
            registry: Registry::default(),
            backup_total: Gauge::default(),
            restore_total: Gauge::default(),
            attempts: Family::default(),
            successes: Family::default(),
            partial_failures: Family::default(),
            failures: Family::default(),
            warnings: Family::default(),
            duration: Family::new_with_constructor(buckets),
            last_success: Family::default(),
            last_status: Family::default(),
            items: Family::default(),
            item_errors: Family::default(),
            size: Family::default(),
            interval: Family::default(),
            restore_attempts: Family::default(),
            restore_successes: Family::default(),
            restore_partial_failures: Family::default(),
            restore_failures: Family::default(),
            location_status: Family::default(),
            location_seen: Family::default(),
            unreadable: Family::default(),
            overdue: Family::default(),
            of_others: Family::default(),
            schedules: Gauge::default(),
            status: Family::default(),
            looked: Gauge::default(),
            failed_looks: Counter::default(),
            claims: Family::default(),
        };
        families.register_velero();
        families.register_own();
        families
    }

    fn register_velero(&mut self) {
        let velero = self.registry.sub_registry_with_prefix("velero");
        // The library ends the names of counters with `_total`.
        let counts = [
            ("backup_attempt", "Backups that were begun", &self.attempts),
            ("backup_success", "Backups that are Completed", &self.successes),
            (
                "backup_partial_failure",
                "Backups that are PartiallyFailed",
                &self.partial_failures,
            ),
            ("backup_failure", "Backups and runs that failed", &self.failures),
            ("backup_warning", "Backups with warnings", &self.warnings),
            (
                "restore_attempt",
                "Restores that were begun",
                &self.restore_attempts,
            ),
            (
                "restore_success",
                "Restores that are Completed",
                &self.restore_successes,
            ),
            (
                "restore_partial_failure",
                "Restores that are PartiallyFailed",
                &self.restore_partial_failures,
            ),
            ("restore_failed", "Restores that failed", &self.restore_failures),
        ];
        for (name, help, family) in counts {
            velero.register(name, help, family.clone());
        }
        let levels = [
            (
                "backup_last_successful_timestamp",
                "End of the newest Completed backup, seconds since 1970",
                &self.last_success,
            ),
            (
                "backup_last_status",
                "1 where the last backup went well or there was none, else 0",
                &self.last_status,
            ),
            ("backup_items_total", "Objects in the newest backup", &self.items),
            (
                "backup_items_errors",
                "Errors of the newest backup",
                &self.item_errors,
            ),
            (
                "backup_tarball_size_bytes",
                "Bytes of the newest backup's archive",
                &self.size,
            ),
        ];
        for (name, help, family) in levels {
            velero.register(name, help, family.clone());
        }
        velero.register(
            "backup_total",
            "Backups that are there",
            self.backup_total.clone(),
        );
        velero.register(
            "restore_total",
            "Restores that are there",
            self.restore_total.clone(),
        );
        velero.register(
            "backup_duration_seconds",
            "Time of a backup",
            self.duration.clone(),
        );
        velero.register(
            "schedule_expected_interval_seconds",
            "Longest time from one run to the next",
            self.interval.clone(),
        );
        velero.register(
            "backup_location_status_gauge",
            "1 where the location can be read, else 0",
            self.location_status.clone(),
        );
    }

    fn register_own(&mut self) {
        let own = self.registry.sub_registry_with_prefix("kubectl_backup");
        let of_locations = [
            (
                "location_seen_timestamp_seconds",
                "When the location was last read; its figures are as old",
                &self.location_seen,
            ),
            (
                "unreadable_backups",
                "Backups that cannot be read",
                &self.unreadable,
            ),
            (
                "overdue_backups",
                "Backups that should have been removed a day ago or earlier",
                &self.overdue,
            ),
            (
                "backups_of_other_clusters",
                "Backups of other clusters in the same place",
                &self.of_others,
            ),
        ];
        for (name, help, family) in of_locations {
            own.register(name, help, family.clone());
        }
        own.register("schedules", "Schedules in the cluster", self.schedules.clone());
        own.register(
            "schedule_status",
            "1 for the word that `schedule list` shows",
            self.status.clone(),
        );
        own.register(
            "seen_timestamp_seconds",
            "When the cluster was last looked at; its figures are as old",
            self.looked.clone(),
        );
        own.register(
            "failed_looks",
            "Looks at the cluster that failed",
            self.failed_looks.clone(),
        );
        own.register(
            "claims",
            "Claims, by whether the annotation of a pod opts their data in",
            self.claims.clone(),
        );
        own.register(
            "build",
            "What runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
    }

    /// Claims in all, and those that nobody opts in; nothing where that may not be seen.
    pub(super) fn claims(&self, seen: Option<(u64, u64)>) {
        self.claims.clear();
        let Some((all, unprotected)) = seen else {
            return;
        };
        for (chosen, count) in [("true", all.saturating_sub(unprotected)), ("false", unprotected)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.claims.get_or_create(&Claims { chosen }).set(count);
        }
    }

    /// A look at the cluster failed: everything stays as it was.
    pub(super) fn failed(&self) {
        self.failed_looks.inc();
    }

    /// How the locations themselves are, before old figures stand in for those that do not answer.
    pub(super) fn locations(&self, seen: &Overview) {
        self.location_status.clear();
        for location in &seen.locations {
            let label = label(&location.name);
            let is_there = location.contents.is_ok();
            self.location_status.get_or_create(&label).set(is_there.into());
            if is_there {
                self.location_seen.get_or_create(&label).set(seen.at.as_second());
            }
        }
    }

    /// What is there now, and what is new.
    pub(super) fn update(&self, seen: &Overview, tally: &mut Tally, restores: &mut Tally) {
        let (made, ran) = (seen.made(), seen.ran());
        let restored = restored(seen);
        self.looked.set(seen.at.as_second());
        self.schedules.set(number(seen.schedules.len()));
        self.backup_total.set(number(made.len()));
        self.restore_total.set(number(restored.len()));
        for news in tally.look(&made, &ran) {
            let label = of(&news.schedule);
            self.attempts.get_or_create(&label).inc();
            let ends = match news.end {
                End::Success => &self.successes,
                End::PartialFailure => &self.partial_failures,
                End::Failure => &self.failures,
            };
            ends.get_or_create(&label).inc();
            if news.is_warned {
                self.warnings.get_or_create(&label).inc();
            }
            if let Some(seconds) = news.seconds {
                self.duration.get_or_create(&label).observe(seconds);
            }
        }
        for news in restores.look(&restored, &[]) {
            let label = of(&news.schedule);
            self.restore_attempts.get_or_create(&label).inc();
            let ends = match news.end {
                End::Success => &self.restore_successes,
                End::PartialFailure => &self.restore_partial_failures,
                End::Failure => &self.restore_failures,
            };
            ends.get_or_create(&label).inc();
        }
        self.schedules(seen, &made);
        self.stores(seen);
    }

    fn schedules(&self, seen: &Overview, made: &[Made]) {
        for level in [
            &self.last_success,
            &self.last_status,
            &self.items,
            &self.item_errors,
            &self.size,
        ] {
            level.clear();
        }
        self.interval.clear();
        self.status.clear();
        let ran = seen.ran();
        let mut names: Vec<&str> = seen.schedules.iter().map(|state| state.name.as_str()).collect();
        if made.iter().any(|made| made.schedule.is_empty()) {
            names.push("");
        }
        for name in names {
            let label = of(name);
            // As Velero does: a counter that appears with its first failure never rises.
            for count in [
                &self.attempts,
                &self.successes,
                &self.partial_failures,
                &self.failures,
                &self.warnings,
                &self.restore_attempts,
                &self.restore_successes,
                &self.restore_partial_failures,
                &self.restore_failures,
            ] {
                drop(count.get_or_create(&label));
            }
            let standing = Standing::of(name, made, &ran);
            self.last_status
                .get_or_create(&label)
                .set(standing.is_good.into());
            if let Some(at) = standing.last_success {
                self.last_success.get_or_create(&label).set(at.as_second());
            }
            let Some(newest) = standing.newest else {
                continue;
            };
            self.items.get_or_create(&label).set(signed(newest.items));
            self.item_errors.get_or_create(&label).set(signed(newest.errors));
            let size = seen
                .locations
                .iter()
                .filter_map(|location| location.contents.as_ref().ok())
                .find(|contents| contents.backups.contains(&newest))
                .and_then(|contents| contents.archives.get(name));
            if let Some(size) = size {
                self.size.get_or_create(&label).set(signed(*size));
            }
        }
        for state in &seen.schedules {
            if let Some(interval) = state.interval(seen.at) {
                self.interval
                    .get_or_create(&of(&state.name))
                    .set(interval.as_secs_f64());
            }
            let standing = Standings {
                schedule: state.name.clone(),
                status: state.status(seen.at).word(),
            };
            self.status.get_or_create(&standing).set(1);
        }
    }

    fn stores(&self, seen: &Overview) {
        for family in [&self.unreadable, &self.overdue, &self.of_others] {
            family.clear();
        }
        for location in &seen.locations {
            let Ok(contents) = &location.contents else {
                continue;
            };
            let label = label(&location.name);
            let late = contents
                .overdue
                .iter()
                .filter(|(_, over)| is_late(*over, seen.at));
            self.unreadable
                .get_or_create(&label)
                .set(signed(contents.unreadable));
            self.overdue.get_or_create(&label).set(number(late.count()));
            self.of_others
                .get_or_create(&label)
                .set(signed(contents.of_others));
        }
    }

    /// All of them in OpenMetrics' text form.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Retention runs once a day at the least.
fn is_late(over: Timestamp, now: Timestamp) -> bool {
    now.duration_since(over) > jiff::SignedDuration::from_hours(24)
}

/// Restores, counted as backups are.
fn restored(seen: &Overview) -> Vec<Made> {
    let contents = seen
        .locations
        .iter()
        .filter_map(|location| location.contents.as_ref().ok());
    contents
        .flat_map(|contents| &contents.restores)
        .map(|restore| Made {
            id: restore.id.clone(),
            schedule: restore.schedule.clone(),
            phase: restore.phase.clone(),
            started: None,
            ended: restore.ended,
            items: 0,
            errors: 0,
            warnings: 0,
        })
        .collect()
}

fn of(schedule: &str) -> Schedule {
    Schedule {
        schedule: schedule.to_owned(),
    }
}

fn label(location: &str) -> Location {
    Location {
        backup_location_name: location.to_owned(),
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Velero's.
fn buckets() -> Histogram {
    Histogram::new([
        60.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 14_400.0,
    ])
}
