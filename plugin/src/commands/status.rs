//! `status`: versions, parts, locations, schedules, volumes and choices of a cluster on one page.
//!
//! In comes nothing but a connection; out go a page or a document, and an exit code: 0 all is well, 1 something needs a
//! person, 3 nothing was found wrong but not everything could be looked at.

use backup_engine::{
    api::ApiClient,
    clock,
    lifecycle::{
        install::Installer,
        velero::{self, look},
    },
    overview::{self, Overview},
    parts::{self, Parts},
    schedule::Status,
};
use backup_plan::{tally::Standing, velero_release::Owner};
use jiff::Timestamp;
use serde::Serialize;
use velero_model::time;

use super::volumes;
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    session::Session,
    view::{self, count, document, table::Table},
};

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) plugin: &'static str,
    pub(super) kubernetes: String,
    pub(super) velero: Option<VeleroSeen>,
    pub(super) parts: Parts,
    pub(super) locations: Vec<Location>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) volumes: Option<Volumes>,
    /// What needs a person.
    pub(super) problems: Vec<String>,
    /// What could not be looked at.
    pub(super) unknown: Vec<String>,
}

/// The Velero of the namespace that was asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VeleroSeen {
    namespace: String,
    /// None where its image does not say.
    version: Option<String>,
    /// Who looks after it, in words.
    owner: String,
    /// Where `disable` would remove it and `upgrade` move it.
    is_ours: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Location {
    name: String,
    place: String,
    reachable: bool,
    read_only: bool,
    used_by: Vec<String>,
    backups: Option<usize>,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Schedule {
    name: String,
    status: &'static str,
    location: String,
    #[serde(with = "time::optional_seconds")]
    next: Option<Timestamp>,
    #[serde(with = "time::optional_seconds")]
    last_good: Option<Timestamp>,
}

/// Claims that pods use or that lie about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Volumes {
    pub(super) claims: u64,
    pub(super) unprotected: u64,
}

pub(crate) async fn run(session: &Session) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let watch = session.watch();
    let made = Box::pin(report(session, &api)).await;
    watch.end().await;
    let report = made?;
    match session.common.output {
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            document::write(&mut view::out(), format, "Status", &report)?;
        }
        _ => page(&report)?,
    }
    for unknown in &report.unknown {
        view::warn(&format!("not known: {unknown}"));
    }
    for problem in &report.problems {
        view::warn(problem);
    }
    Ok(match (report.problems.is_empty(), report.unknown.is_empty()) {
        (false, _) => Exit::Failed,
        (true, false) => Exit::DoneWithErrors,
        (true, true) => Exit::Done,
    })
}

pub(super) async fn report(session: &Session, api: &ApiClient) -> Result<Report, Failure> {
    let now = clock::now();
    let kubernetes = session.unless_interrupted(api.version()).await?;
    let parts = parts::look(api, &session.common.velero_namespace, now);
    let parts = session.unless_interrupted(parts).await?;
    let mut problems = parts.problems(now);
    let mut unknown = parts.unknown.clone();
    let seen = match Box::pin(session.unless_interrupted(overview::look(api))).await {
        Ok(seen) => Some(seen),
        Err(Failure::Api(error)) if error.is_forbidden() => {
            unknown.push(format!("schedules and locations: {error}"));
            None
        }
        Err(failure) => return Err(failure),
    };
    let volumes = match Box::pin(volumes::unprotected(session, api)).await {
        Ok((claims, unprotected)) => Some(Volumes { claims, unprotected }),
        Err(Failure::Api(error)) if error.is_forbidden() => {
            unknown.push(format!("volumes: {error}"));
            None
        }
        Err(failure) => return Err(failure),
    };
    let (locations, schedules) = seen.as_ref().map(|seen| rows(seen, now)).unwrap_or_default();
    if let Some(seen) = &seen {
        problems.extend(problems_of(seen, &schedules, now));
    }
    let velero = velero_of(session, api, &mut problems, &mut unknown).await?;
    Ok(Report {
        plugin: env!("CARGO_PKG_VERSION"),
        kubernetes,
        velero,
        parts,
        locations,
        schedules,
        volumes,
        problems,
        unknown,
    })
}

/// Which Velero there is, and whether it is behind.
async fn velero_of(
    session: &Session,
    api: &ApiClient,
    problems: &mut Vec<String>,
    unknown: &mut Vec<String>,
) -> Result<Option<VeleroSeen>, Failure> {
    let namespace = &session.common.velero_namespace;
    let installer = Installer::new(api, &session.cancel);
    let seen = match session
        .unless_interrupted(look::look(&installer, api, namespace))
        .await
    {
        Ok(seen) => seen,
        Err(Failure::Api(error)) if error.is_forbidden() => {
            unknown.push(format!("Velero in namespace {namespace}: {error}"));
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    };
    let Some(found) = seen.found else {
        return Ok(None);
    };
    let is_ours = found.owner == Owner::Us;
    let upgrade = "`kubectl backup upgrade` finishes that";
    if let Some(coming) = found.coming.as_ref().filter(|_| is_ours) {
        problems.push(format!(
            "Velero in namespace {namespace} is on its way to {coming} and has not arrived; {upgrade}"
        ));
    } else if is_ours
        && found
            .version
            .as_deref()
            .is_some_and(|there| there != velero::VERSION)
    {
        problems.push(format!(
            "Velero in namespace {namespace} is {}, this program ships {}; {upgrade}",
            found.version.as_deref().unwrap_or_default(),
            velero::VERSION
        ));
    }
    Ok(Some(VeleroSeen {
        namespace: namespace.clone(),
        version: found.version,
        owner: found.owner.to_string(),
        is_ours,
    }))
}

fn rows(seen: &Overview, now: Timestamp) -> (Vec<Location>, Vec<Schedule>) {
    let (made, ran) = (seen.made(), seen.ran());
    let locations = seen.locations.iter().map(|location| Location {
        name: location.name.clone(),
        place: location.place.clone(),
        reachable: location.contents.is_ok(),
        read_only: location.is_read_only,
        used_by: seen
            .schedules
            .iter()
            .filter(|state| state.location == location.name)
            .map(|state| state.name.clone())
            .collect(),
        backups: location
            .contents
            .as_ref()
            .ok()
            .map(|contents| contents.backups.len()),
        message: location.contents.as_ref().err().cloned().unwrap_or_default(),
    });
    let schedules = seen.schedules.iter().map(|state| Schedule {
        name: state.name.clone(),
        status: state.status(now).word(),
        location: state.location.clone(),
        next: state.next(now),
        last_good: Standing::of(&state.name, &made, &ran).last_success,
    });
    (locations.collect(), schedules.collect())
}

fn problems_of(seen: &Overview, schedules: &[Schedule], now: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    for location in &seen.locations {
        if let Err(message) = &location.contents {
            problems.push(format!(
                "location {} cannot be read: {message}; `kubectl backup location check {}` says more",
                location.name, location.name
            ));
        } else if location.is_read_only && seen.schedules.iter().any(|state| state.location == location.name)
        {
            problems.push(format!(
                "location {} is read-only and schedules write to it",
                location.name
            ));
        }
    }
    for (state, row) in seen.schedules.iter().zip(schedules) {
        let status = state.status(now);
        if matches!(status, Status::Failing | Status::Missed | Status::Invalid) {
            problems.push(format!(
                "schedule {} is {}; `kubectl backup schedule describe {}` says more",
                state.name,
                status.word(),
                state.name
            ));
        }
        if let Some(run) = state.overrunning(now) {
            problems.push(format!(
                "schedule {}: Job {} is still at work although the next run was due; `kubectl backup schedule describe {}` \
                 says more",
                state.name, run.name, state.name
            ));
        }
        let old = row.last_good.zip(state.interval(now));
        if old.is_some_and(|(good, interval)| now.duration_since(good) > interval * 3) {
            problems.push(format!(
                "schedule {} has had no good backup for three of its intervals",
                state.name
            ));
        }
        let is_unknown = !seen
            .locations
            .iter()
            .any(|location| location.name == state.location);
        if is_unknown {
            problems.push(format!(
                "schedule {} writes to location {}, whose Secret location-{} is not there any more; create it again with \
                 `kubectl backup schedule delete {}` and `schedule create`",
                state.name, state.location, state.location, state.name
            ));
        }
    }
    problems
}

fn page(report: &Report) -> Result<(), Failure> {
    view::print(&format!(
        "kubectl-backup {}, Kubernetes {}, Velero {}\n\n",
        report.plugin,
        report.kubernetes,
        match &report.velero {
            None => "none".to_owned(),
            Some(velero) => format!(
                "{} (looked after by {})",
                velero.version.as_deref().unwrap_or("of an unknown version"),
                velero.owner
            ),
        }
    ))?;
    let when = |at: Option<Timestamp>| at.map(time::format).unwrap_or_default();
    let mut parts = Table::new(&["PART", "READY", "IMAGE"]);
    for workload in &report.parts.workloads {
        parts.push(vec![
            format!("{}/{}", workload.namespace, workload.name),
            format!("{}/{}", workload.ready, workload.wanted),
            workload.image.clone(),
        ]);
    }
    let mut locations = Table::new(&["LOCATION", "PLACE", "STATE", "BACKUPS", "USED BY"]);
    for location in &report.locations {
        let state = match (location.reachable, location.read_only) {
            (false, _) => "unavailable",
            (true, true) => "read-only",
            (true, false) => "available",
        };
        locations.push(vec![
            location.name.clone(),
            location.place.clone(),
            state.to_owned(),
            location
                .backups
                .map(|number| number.to_string())
                .unwrap_or_default(),
            location.used_by.join(","),
        ]);
    }
    let mut schedules = Table::new(&["SCHEDULE", "STATUS", "NEXT RUN", "LAST GOOD"]);
    for schedule in &report.schedules {
        schedules.push(vec![
            schedule.name.clone(),
            schedule.status.to_owned(),
            when(schedule.next),
            when(schedule.last_good),
        ]);
    }
    for (table, is_empty, none) in [
        (
            parts,
            report.parts.workloads.is_empty(),
            "nothing of ours runs in the cluster\n",
        ),
        (
            locations,
            report.locations.is_empty(),
            "no location lies in the cluster\n",
        ),
        (schedules, report.schedules.is_empty(), "no schedules\n"),
    ] {
        if is_empty {
            view::print(none)?;
        } else {
            table.write(&mut view::out())?;
        }
        view::print("\n")?;
    }
    for definition in &report.parts.definitions {
        view::print(&format!(
            "CRD {} {}\n",
            definition.name,
            definition.versions.join(",")
        ))?;
    }
    if let Some(end) = report.parts.certificate_ends {
        view::print(&format!(
            "certificate of the admission server until {}\n",
            time::format(end)
        ))?;
    }
    for lease in &report.parts.leases {
        view::print(&format!("lease {} held by {}\n", lease.name, lease.holder))?;
    }
    if let Some(volumes) = report.volumes {
        view::print(&format!(
            "{}, {} chosen by no rule (`kubectl backup volumes explain`)\n",
            count(volumes.claims, "claim"),
            volumes.unprotected
        ))?;
    }
    if report.problems.is_empty() {
        view::print("nothing needs a person\n")?;
    }
    Ok(())
}
