//! `restore`: brings back a backup or parts of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backup_engine::{
    catalog::{self, Listed, OpenBackup},
    restore::{self, ObjectRef, RestoreError, RestoreRequest, RestoreSummary},
};
use serde_json::json;
use velero_model::{
    name::BackupName,
    restore_record::{KindResult, RestoreRecord},
    source::VELERO_SCHEDULE,
};

use super::{documents, in_cluster, velero, volume_data};
use crate::{
    arguments::global::OutputFormat,
    engine::{self, Cluster, Engine},
    exit::{Exit, Failure},
    request::{ATTEMPTS, InCluster, ObjectWord, Restore, RestoreSource, describe_scope, numbered},
    session::{Opened, Session},
    view::{self, document, table::Table},
};

/// Failures, differences and warnings that the summary prints; all of them are in the record.
const SHOWN: usize = 20;

pub(crate) async fn run(session: &Session, request: Restore) -> Result<Exit, Failure> {
    if let Some(run) = &request.in_cluster {
        return Box::pin(by_a_pod(session, &request, run)).await;
    }
    let chosen = engine::choose(session, &request.place, Cluster::Needed).await?;
    if let Engine::Velero(driven) = chosen.engine {
        return velero::restore::run(session, &request, &driven, &chosen.words).await;
    }
    engine::must_wait(session)?;
    let opened = session.open(&request.place).await?;
    let name = match &request.source {
        RestoreSource::Backup(name) => name.clone(),
        RestoreSource::Schedule(schedule) => newest(session, &opened, schedule).await?,
    };
    let backup = session
        .unless_interrupted(catalog::open(&opened.bucket, &name))
        .await?;
    let phase = &backup.backup().status.phase;
    if !phase.is_restorable() {
        return Err(Failure::Refused(format!(
            "backup {name} is {phase} and cannot be restored; `kubectl backup list` shows the others"
        )));
    }
    if request.plan {
        let mut planned = engine_request(session, &request, &name).await?;
        let api = session.api().await?;
        planned.volumes = volume_data::of_restore(session, &api, &request, &opened, &backup).await?;
        let how = (chosen.words.as_str(), scope_text(&request));
        return super::plan::run(session, &backup, &planned, how).await;
    }
    agree(session, &request).await?;
    let begun = Instant::now();
    let (summary, has_data) = make(session, &opened, &backup, &request, &chosen.words).await?;
    show(session.common.output, &summary, has_data, begun.elapsed())?;
    Ok(Exit::of_phase(&summary.record.phase))
}

/// A pod cannot ask, so a person is asked here.
async fn by_a_pod(session: &Session, request: &Restore, run: &InCluster) -> Result<Exit, Failure> {
    if !request.plan {
        agree(session, request).await?;
    }
    let mut more = vec!["--yes".to_owned()];
    let result = match (&request.source, &request.name) {
        (_, Some(name)) => format!("restore/{name}"),
        (RestoreSource::Backup(backup), None) => {
            let name = request.name_for(backup)?;
            more.push(format!("--name={name}"));
            format!("restore/{name}")
        }
        (RestoreSource::Schedule(schedule), None) => format!("restore of schedule {schedule}"),
    };
    let work = in_cluster::Work {
        verb: "restore",
        result,
        place: &request.place,
        run,
        more,
        volumes: request.restore_volumes.then_some(in_cluster::Volumes {
            movers: &request.movers,
            may_make_password: false,
        }),
    };
    in_cluster::run(session, work).await
}

/// What is restored, in words.
fn scope_text(request: &Restore) -> String {
    if request.only.is_empty() {
        return describe_scope(&request.scope);
    }
    let objects = request.only.iter().map(|object| object_ref(object).to_string());
    objects.collect::<Vec<_>>().join(", ")
}

/// A restore that may delete objects or data needs a person's word.
async fn agree(session: &Session, request: &Restore) -> Result<(), Failure> {
    let mut what = Vec::new();
    if request.existing.may_delete() {
        what.push(format!(
            "objects that exist and differ would be deleted, with everything that they own, and made anew \
             (--existing-resource-policy {})",
            request.existing
        ));
    }
    if request.overwrite_volumes {
        what.push(
            "the data of claims that exist and that no pod uses would be replaced by that of the backup, and what is not in \
             that would be removed (--overwrite-volumes)"
                .to_owned(),
        );
    }
    if what.is_empty() {
        return Ok(());
    }
    session
        .agree(&what.join("; "), "yes", "see which with --plan, then ")
        .await
}

/// Makes the restore. A name that was made up from the time may be taken by a run of the same second; it gets a number
/// then.
async fn make(
    session: &Session,
    opened: &Opened,
    backup: &OpenBackup,
    request: &Restore,
    engine: &str,
) -> Result<(RestoreSummary, bool), Failure> {
    let mut engine_request = engine_request(session, request, backup.name()).await?;
    let made_up = engine_request.name.clone();
    let scope = scope_text(request);
    let api = session.api().await?;
    engine_request.volumes = volume_data::of_restore(session, &api, request, opened, backup).await?;
    let mut attempt = 1;
    loop {
        view::say(&format!(
            "restore {} of backup {}: {engine}; scope: {scope}",
            engine_request.name,
            backup.name(),
        ));
        let watch = session.watch();
        let run = restore::run(
            &api,
            &opened.bucket,
            backup,
            &engine_request,
            &session.progress,
            &session.cancel,
        );
        let done = Box::pin(run).await;
        watch.end().await;
        match done {
            Err(
                RestoreError::Exists { .. }
                | RestoreError::OtherRequest { .. }
                | RestoreError::Running { .. },
            ) if request.name.is_none() && attempt < ATTEMPTS => {
                attempt += 1;
                engine_request.name = numbered(&made_up, attempt)?;
            }
            done => return Ok((done?, engine_request.volumes.is_some())),
        }
    }
}

/// The newest restorable backup of a schedule.
async fn newest(session: &Session, opened: &Opened, schedule: &str) -> Result<BackupName, Failure> {
    let listing = session.unless_interrupted(catalog::list(&opened.bucket)).await?;
    let of_schedule = |listed: &&Listed| {
        let backup = &listed.backup;
        backup
            .source()
            .schedule
            .as_deref()
            .or_else(|| backup.label(VELERO_SCHEDULE))
            == Some(schedule)
            && backup.status.phase.is_restorable()
    };
    let newest = listing
        .backups
        .iter()
        .filter(of_schedule)
        .max_by_key(|listed| listed.backup.created());
    match newest.map(|listed| BackupName::parse(&listed.backup.metadata.name)) {
        Some(Ok(name)) => Ok(name),
        _ => Err(Failure::NotFound(format!(
            "there is no restorable backup of schedule {schedule} in {}; `kubectl backup list -o wide` shows schedules",
            opened.bucket.describe()
        ))),
    }
}

fn object_ref(object: &ObjectWord) -> ObjectRef {
    ObjectRef {
        resource: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    }
}

async fn engine_request(
    session: &Session,
    request: &Restore,
    backup: &BackupName,
) -> Result<RestoreRequest, Failure> {
    let modifiers = match &request.modifiers {
        Some(source) => Some(Arc::new(documents::modifiers(session, source).await?)),
        None => None,
    };
    let hooks = match &request.hooks {
        Some(source) => Some(Arc::new(documents::hooks(session, source).await?)),
        None => None,
    };
    Ok(RestoreRequest {
        modifiers,
        hooks,
        overwrite_volumes: request.overwrite_volumes,
        scope: request.scope.clone(),
        only: request.only.iter().map(object_ref).collect(),
        namespace_mappings: request.namespace_mappings.clone(),
        existing: request.existing.clone(),
        managed_fields: request.managed_fields,
        preserve_node_ports: request.preserve_node_ports,
        preserve_cluster_ips: request.preserve_cluster_ips,
        storage_class_mappings: request.storage_class_mappings.clone(),
        image_mappings: request.image_mappings.clone(),
        status_include: request.status_include.clone(),
        status_exclude: request.status_exclude.clone(),
        restore_volumes: request.restore_volumes,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        records_folder: session.common.records_folder.clone(),
        ..RestoreRequest::new(request.name_for(backup)?)
    })
}

fn show(
    format: OutputFormat,
    summary: &RestoreSummary,
    has_data: bool,
    took: Duration,
) -> Result<(), Failure> {
    let record = &summary.record;
    match format {
        OutputFormat::Name => Ok(view::print(&format!("restore/{}\n", record.name))?),
        OutputFormat::Json | OutputFormat::Yaml => {
            let differs = summary
                .differs
                .iter()
                .map(|difference| json!({ "object": difference.object, "paths": difference.paths }));
            let failures = summary
                .failures
                .iter()
                .map(|failure| json!({ "object": failure.object, "reason": failure.reason }));
            let result = json!({
                "name": record.name,
                "record": record,
                "recordStoredAt": summary.record_stored_at,
                "durationSeconds": took.as_secs_f64(),
                "claims": claims(record, has_data),
                "differs": differs.collect::<Vec<_>>(),
                "failures": failures.collect::<Vec<_>>(),
                "warnings": summary.warnings,
            });
            document::write(&mut view::out(), format, "RestoreSummary", &result)
        }
        OutputFormat::Table | OutputFormat::Wide => {
            if format == OutputFormat::Wide {
                kinds(record).write(&mut view::out())?;
                view::print("\n")?;
            }
            totals(record, took).write(&mut view::out())?;
            if let Some(claims) = claims(record, has_data) {
                view::print(&format!("claims: {claims}\n"))?;
            }
            messages(summary);
            Ok(())
        }
    }
}

fn totals(record: &RestoreRecord, took: Duration) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "STATUS",
        "CREATED",
        "UPDATED",
        "UNCHANGED",
        "DIFFERS",
        "SKIPPED",
        "FAILED",
        "DURATION",
    ]);
    let mut row = vec![record.name.clone(), record.phase.to_string()];
    row.extend(counts(&record.totals()));
    row.push(view::took(took));
    table.push(row);
    table
}

/// One line a kind.
pub(crate) fn kinds(record: &RestoreRecord) -> Table {
    let mut table = Table::new(&[
        "KIND",
        "CREATED",
        "UPDATED",
        "UNCHANGED",
        "DIFFERS",
        "SKIPPED",
        "FAILED",
    ]);
    for (kind, result) in &record.kinds {
        let mut row = vec![kind.clone()];
        row.extend(counts(result));
        table.push(row);
    }
    table
}

fn counts(result: &KindResult) -> [String; 6] {
    [
        result.created,
        result.updated,
        result.unchanged,
        result.differs,
        result.skipped_count(),
        result.failed,
    ]
    .map(|count| count.to_string())
}

/// What must be said about claims where the backup has no data of any.
fn claims(record: &RestoreRecord, has_data: bool) -> Option<&'static str> {
    let claims = record.kinds.get("persistentvolumeclaims")?;
    (claims.created + claims.updated > 0 && !has_data).then_some("manifests only, no data")
}

fn messages(summary: &RestoreSummary) {
    let name = &summary.record.name;
    let warnings = summary
        .warnings
        .iter()
        .filter(|warning| !view::is_about_claims(warning));
    for warning in warnings.take(SHOWN) {
        view::warn(warning);
    }
    for difference in summary.differs.iter().take(SHOWN) {
        view::warn(&format!(
            "{} exists and differs, left alone: {}",
            difference.object,
            difference.paths.join(", ")
        ));
    }
    for failure in summary.failures.iter().take(SHOWN) {
        view::say(&format!("failed: {}: {}", failure.object, failure.reason));
    }
    let hidden = [
        summary.warnings.len(),
        summary.differs.len(),
        summary.failures.len(),
    ]
    .into_iter()
    .map(|count| count.saturating_sub(SHOWN))
    .sum::<usize>();
    if hidden > 0 {
        view::say(&format!(
            "{hidden} more; `kubectl backup restores logs {name}` shows all"
        ));
    }
    if !summary.differs.is_empty() {
        view::say(
            "next: --existing-resource-policy=update changes what differs to what the backup holds; with --plan it shows how",
        );
    }
    if !summary.failures.is_empty() {
        view::say(&format!(
            "next: remove the cause and repeat the restore with --name {name}; what is done already stays as it is"
        ));
    }
    view::say(&format!("record: {}", summary.record_stored_at));
}

#[cfg(test)]
mod tests {
    use velero_model::phase::Phase;

    use super::*;

    #[test]
    fn totals_fit_in_one_line() {
        let mut record = RestoreRecord {
            name: "nightly-1".into(),
            phase: Phase::Completed,
            ..RestoreRecord::default()
        };
        let result = KindResult {
            created: 3,
            differs: 1,
            ..KindResult::default()
        };
        record.kinds.insert("persistentvolumeclaims".into(), result);
        let mut out = Vec::new();
        totals(&record, Duration::from_secs(2)).write(&mut out).unwrap();
        let expected = "\
NAME        STATUS      CREATED   UPDATED   UNCHANGED   DIFFERS   SKIPPED   FAILED   DURATION
nightly-1   Completed   3         0         0           1         0         0        2.0s
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(claims(&record, false), Some("manifests only, no data"));
        assert_eq!(claims(&record, true), None);
    }
}
