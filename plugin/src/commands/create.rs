//! `create`: makes a backup, or with `--dry-run` shows what it would hold.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backup_engine::{
    api::ApiClient,
    backup::{self, BackupError, BackupRequest, Summary, Volumes},
    velero::submit,
};
use backup_plan::{human, retention::Policy};
use serde_json::{Map, json};
use velero_model::{outcome::Outcome, time};

use super::{in_cluster, preview, retention, velero, volume_data};
use crate::{
    arguments::global::{EngineWord, OutputFormat},
    engine::{self, Cluster, Engine},
    exit::{Exit, Failure},
    request::{ATTEMPTS, Clusters, Create, Retention, describe_scope, numbered},
    session::{Opened, Session},
    view::{self, document, table::Table},
};

/// Lists at the same time: more do not make an API server faster.
const LISTS_IN_FLIGHT: usize = 4;

/// Errors and warnings that the summary prints; all of them are in the backup.
const SHOWN: usize = 20;

pub(crate) async fn run(session: &Session, request: Create) -> Result<Exit, Failure> {
    let Some(place) = &request.place else {
        return preview(session, &request).await;
    };
    if let Some(run) = &request.in_cluster {
        let name = request.name_is_made_up.then(|| request.name.to_string());
        let work = in_cluster::Work {
            verb: "create",
            result: format!("backup/{}", request.name),
            place,
            run,
            more: name.into_iter().collect(),
            volumes: request.volumes.as_ref().map(|volumes| in_cluster::Volumes {
                movers: &volumes.movers,
                may_make_password: true,
            }),
        };
        return in_cluster::run(session, work).await;
    }
    let chosen = engine::choose(session, place, Cluster::Needed).await?;
    if let Engine::Velero(driven) = chosen.engine {
        return velero::create::run(session, &request, place, &driven, &chosen.words).await;
    }
    engine::must_wait(session)?;
    let what = format!("{}; scope: {}", chosen.words, describe_scope(&request.scope));
    let api = session.api().await?;
    let opened = session.open(place).await?.limited(request.upload_bandwidth);
    if let (Some(jitter), Some(schedule)) = (request.jitter, &request.schedule) {
        wait(session, &api, schedule, jitter).await?;
    }
    let begun = Instant::now();
    let volumes = volume_data::of_backup(session, &api, &request, place, &opened.bucket).await?;
    let summary = make(session, &api, &request, opened, &what, volumes).await?;
    show(session.common.output, &summary, begun.elapsed())?;
    let exit = Exit::of_phase(&summary.phase);
    match &request.schedule {
        Some(schedule) if request.apply_retention => {
            let wanted = Retention {
                place: place.clone(),
                schedule: Some(schedule.clone()),
                policy: Policy::default(),
                clusters: Clusters::Own,
            };
            Ok(exit.and(Box::pin(retention::apply(session, &wanted, false)).await?))
        }
        _ => Ok(exit),
    }
}

/// Waits so that a fleet of clusters does not begin at once. The time is made of the cluster's identity and the schedule's
/// name: the same every night, so that the distance between two runs stays what it was asked to be.
async fn wait(session: &Session, api: &ApiClient, schedule: &str, below: Duration) -> Result<(), Failure> {
    let identity = session.unless_interrupted(api.identity()).await?;
    let later = jitter(&format!("{}/{schedule}", identity.uid), below);
    view::say(&format!("begins in {} s, as --jitter wants it", later.as_secs()));
    session
        .unless_interrupted(async {
            tokio::time::sleep(later).await;
            Ok::<_, Failure>(())
        })
        .await
}

/// Whole seconds below a limit, from a text.
fn jitter(text: &str, below: Duration) -> Duration {
    // FNV-1a: evenly spread, and the same on every machine.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Duration::from_secs((hash >> 16) % below.as_secs().max(1))
}

/// Shows what the direct engine would take; Velero has no preview.
async fn preview(session: &Session, request: &Create) -> Result<Exit, Failure> {
    if session.common.engine == EngineWord::Velero {
        return Err(
            submit::unsupported("--dry-run", "Velero cannot say beforehand what it would take").into(),
        );
    }
    let api = session.api().await?;
    view::say(&format!(
        "preview of backup {}: engine direct (a preview is always its work); scope: {}; nothing is stored",
        request.name,
        describe_scope(&request.scope)
    ));
    let wanted = engine_request(session, request, "default".to_owned());
    let watch = session.watch();
    let done = Box::pin(backup::preview(&api, &wanted, &session.progress, &session.cancel)).await;
    watch.end().await;
    preview::show(session, &request.name, &done?)
}

/// Makes the backup. A name that was made up from the time may be taken by a run of the same second; it gets a number
/// then.
async fn make(
    session: &Session,
    api: &ApiClient,
    request: &Create,
    opened: Opened,
    what: &str,
    volumes: Option<Volumes>,
) -> Result<Summary, Failure> {
    let bucket = opened.bucket;
    let mut engine_request = engine_request(session, request, opened.name);
    engine_request.volumes = volumes;
    let mut attempt = 1;
    loop {
        view::say(&format!(
            "backup {}: {what}; to {}",
            engine_request.name,
            bucket.describe()
        ));
        let watch = session.watch();
        let run = backup::create(
            api,
            Arc::clone(&bucket),
            &engine_request,
            &session.progress,
            &session.cancel,
        );
        let done = Box::pin(run).await;
        watch.end().await;
        match done {
            Err(BackupError::Exists { .. } | BackupError::Claimed { .. })
                if request.name_is_made_up && attempt < ATTEMPTS =>
            {
                attempt += 1;
                engine_request.name = numbered(&request.name, attempt)?;
            }
            done => return Ok(done?),
        }
    }
}

/// The request as the engines know it.
pub(super) fn engine_request(session: &Session, request: &Create, storage_location: String) -> BackupRequest {
    BackupRequest {
        name: request.name.clone(),
        scope: request.scope.clone(),
        ttl: request.ttl,
        labels: request.labels.clone(),
        annotations: request.all_annotations(),
        schedule: request.schedule.clone(),
        lock_until: request.lock_until,
        velero_namespace: session.common.velero_namespace.clone(),
        storage_location,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        lists_in_flight: LISTS_IN_FLIGHT,
        volumes: None,
        velero_spec: Map::new(),
    }
}

fn show(format: OutputFormat, summary: &Summary, took: Duration) -> Result<(), Failure> {
    match format {
        OutputFormat::Name => Ok(view::print(&format!("backup/{}\n", summary.name))?),
        OutputFormat::Json | OutputFormat::Yaml => {
            let result = json!({
                "name": summary.name,
                "engine": "direct",
                "status": summary.phase,
                "location": summary.location,
                "objects": summary.objects,
                "size": summary.stored_bytes,
                "started": time::format(summary.started),
                "durationSeconds": took.as_secs_f64(),
                "completed": time::format(summary.completed),
                "expires": view::timestamp(summary.expiration),
                "claims": claims(&summary.outcome),
                "errors": summary.errors,
                "warnings": summary.warnings,
                "outcome": summary.outcome,
            });
            document::write(&mut view::out(), format, "BackupSummary", &result)
        }
        OutputFormat::Table | OutputFormat::Wide => table(format, summary, took),
    }
}

fn table(format: OutputFormat, summary: &Summary, took: Duration) -> Result<(), Failure> {
    let mut headings = vec![
        "NAME", "STATUS", "OBJECTS", "SIZE", "DURATION", "WARNINGS", "ERRORS",
    ];
    let mut row = vec![
        summary.name.to_string(),
        summary.phase.to_string(),
        summary.objects.to_string(),
        human::bytes(summary.stored_bytes),
        view::took(took),
        summary.warnings.len().to_string(),
        summary.errors.len().to_string(),
    ];
    if format == OutputFormat::Wide {
        headings.extend(["EXPIRES", "LOCATION"]);
        row.extend([
            view::expires(summary.expiration, summary.completed),
            summary.location.clone(),
        ]);
    }
    let mut table = Table::new(&headings);
    table.push(row);
    table.write(&mut view::out())?;
    if let Some(claims) = claims(&summary.outcome) {
        view::print(&format!("claims: {claims}\n"))?;
    }
    messages(summary);
    Ok(())
}

/// What must be said about claims: that no volume data is stored, or how much.
fn claims(outcome: &Outcome) -> Option<String> {
    let stored = outcome
        .volumes
        .items
        .iter()
        .filter(|volume| volume.snapshot.is_some());
    let (mut count, mut bytes, mut new_bytes) = (0_u64, 0, 0);
    for volume in stored {
        count += 1;
        bytes += volume.bytes;
        new_bytes += volume.new_bytes;
    }
    if count > 0 {
        return Some(format!(
            "{count} with data, {}, of which {} were new in the repositories",
            human::bytes(bytes),
            human::bytes(new_bytes)
        ));
    }
    let has_claims = outcome.kinds.iter().any(|kind| {
        kind.stored > 0 && kind.kind.group.is_empty() && kind.kind.plural == "persistentvolumeclaims"
    });
    (has_claims && !outcome.volumes.data).then(|| "manifests only, no data".to_owned())
}

fn messages(summary: &Summary) {
    let name = &summary.name;
    let warnings = summary
        .warnings
        .iter()
        .filter(|warning| !view::is_about_claims(warning));
    for warning in warnings.take(SHOWN) {
        view::warn(warning);
    }
    for error in summary.errors.iter().take(SHOWN) {
        view::say(&format!("missing: {error}"));
    }
    let hidden = summary.warnings.len().saturating_sub(SHOWN) + summary.errors.len().saturating_sub(SHOWN);
    if hidden > 0 {
        view::say(&format!(
            "{hidden} more; `kubectl backup describe {name}` shows all"
        ));
    }
    if !summary.errors.is_empty() {
        view::say(next_step(&summary.errors));
    }
}

/// What a person can do about errors.
fn next_step(errors: &[String]) -> &'static str {
    if errors
        .iter()
        .any(|error| error.to_ascii_lowercase().contains("forbidden"))
    {
        "next: ask for the right to get and list what is missing, or leave it out with --exclude-resources, then back up \
         again; everything else is in this backup"
    } else {
        "next: remove the cause and back up again; everything else is in this backup"
    }
}

#[cfg(test)]
mod tests {
    use velero_model::{
        outcome::{KindOutcome, VolumeOutcome},
        resource::ApiKind,
    };

    use super::*;

    #[test]
    fn claims_without_data_are_said() {
        let mut outcome = Outcome::default();
        assert_eq!(claims(&outcome), None);
        let mut kind = KindOutcome::new(ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: "persistentvolumeclaims".into(),
            kind: "PersistentVolumeClaim".into(),
            namespaced: true,
        });
        outcome.kinds.push(kind.clone());
        assert_eq!(claims(&outcome), None);
        kind.stored = 1;
        outcome.kinds.push(kind);
        assert_eq!(claims(&outcome).as_deref(), Some("manifests only, no data"));
        outcome.volumes.data = true;
        assert_eq!(claims(&outcome), None);
        outcome.volumes.items.push(VolumeOutcome {
            snapshot: Some("ab".into()),
            bytes: 2048,
            new_bytes: 1024,
            ..VolumeOutcome::default()
        });
        assert_eq!(
            claims(&outcome).as_deref(),
            Some("1 with data, 2KiB, of which 1KiB were new in the repositories")
        );
    }

    #[test]
    fn a_fleet_is_spread_and_each_member_keeps_its_place() {
        let below = Duration::from_mins(10);
        let times: std::collections::BTreeSet<Duration> = (0..200)
            .map(|number| jitter(&format!("uid-{number}/nightly"), below))
            .collect();
        assert!(times.len() > 140, "{}", times.len());
        assert!(times.iter().all(|time| *time < below));
        assert_eq!(jitter("a/b", below), jitter("a/b", below));
        assert_eq!(jitter("a/b", Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_missing_permission_has_its_own_next_step() {
        assert!(next_step(&["secrets: secrets is forbidden".into()]).contains("ask for the right"));
        assert!(next_step(&["group metrics.k8s.io/v1beta1: 503".into()]).contains("remove the cause"));
    }
}
