//! `restore` by Velero: a Restore object, its end, and what was done.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use backup_engine::{
    catalog,
    storage::Bucket,
    velero::{Kind, VeleroError, check, fetch, submit},
};
use backup_plan::{hooks::Spec, kinds::DiscoveredKind};
use serde_json::json;
use velero_model::{
    api_object::{DownloadTargetKind as File, Run},
    name::BackupName,
    phase::Phase,
    resource_list::ResourceList,
    results::Results,
};

use super::{bucket, follow, messages, reasons, served};
use crate::{
    arguments::global::OutputFormat,
    commands::documents,
    engine::Driven,
    exit::{Exit, Failure},
    request::{ATTEMPTS, DocumentSource, Restore, RestoreSource, describe_scope, numbered},
    session::Session,
    view::{self, document, table::Table},
};

/// Files that tell what came of a restore.
const FILES: [File; 2] = [File::RestoreResults, File::RestoreResourceList];

/// Objects by what was done to them.
type Actions = BTreeMap<String, u64>;

/// What came of a restore, as far as it is known.
#[derive(Debug, Default)]
struct Made {
    run: Run,
    results: Results,
    kinds: BTreeMap<String, Actions>,
}

/// What Velero cannot do is refused before anything is asked of it; gives its word for existing objects.
fn supported(request: &Restore) -> Result<String, Failure> {
    const OTHER: &str = "use --engine direct, which brings back manifests and no volume data";
    let existing = request.existing.to_string();
    let table = [
        (
            !request.only.is_empty(),
            "KIND/NAME",
            "Velero restores by namespace, kind and label, never single objects",
        ),
        (
            request.plan,
            "--plan",
            "Velero decides while it writes and tells nothing before",
        ),
        (
            !matches!(existing.as_str(), "none" | "update"),
            "--existing-resource-policy",
            "Velero knows none and update, for all kinds alike",
        ),
        (
            !request.storage_class_mappings.is_empty(),
            "--storage-class-mappings",
            "Velero reads them from a ConfigMap that holds for all of its restores",
        ),
        (
            !request.image_mappings.is_empty(),
            "--image-mappings",
            "Velero reads them from a ConfigMap that holds for all of its restores",
        ),
        (
            request.preserve_cluster_ips,
            "--preserve-cluster-ips",
            "Velero always has addresses allocated anew",
        ),
        (
            request.managed_fields,
            "--restore-managed-fields",
            "Velero puts them back always, without being asked",
        ),
        (
            matches!(request.modifiers, Some(DocumentSource::File(_))),
            "--resource-modifier-file",
            "Velero reads rules from a ConfigMap of its namespace (--resource-modifier-configmap)",
        ),
        (
            request.overwrite_volumes,
            "--overwrite-volumes",
            "Velero writes into claims that it has made, and no others",
        ),
    ];
    match table.into_iter().find(|(is_asked, ..)| *is_asked) {
        Some((_, what, reason)) => Err(VeleroError::Unsupported {
            what: what.to_owned(),
            reason,
            next: OTHER,
        }
        .into()),
        None => Ok(existing),
    }
}

pub(crate) async fn run(
    session: &Session,
    request: &Restore,
    driven: &Driven,
    words: &str,
) -> Result<Exit, Failure> {
    let existing = supported(request)?;
    let resource_modifier = match &request.modifiers {
        Some(DocumentSource::ConfigMap(name)) => Some(name.as_str()),
        _ => None,
    };
    let hooks = match &request.hooks {
        Some(source) => Some(documents::hooks(session, source).await?),
        None => None,
    };
    let bucket = bucket(session, &request.place).await?;
    let backup = source(session, request, driven, bucket.as_ref()).await?;
    let kinds = served(session, driven.velero.api()).await?;
    let begun = Instant::now();
    let mut name = request.name_for(&backup)?;
    let made_up = name.clone();
    let mut attempt = 1;
    loop {
        view::say(&format!(
            "restore {name} of backup {backup}: {words}; scope: {}",
            describe_scope(&request.scope)
        ));
        let wish = submit::RestoreWish {
            name: &name,
            backup: &backup,
            scope: &request.scope,
            namespace_mappings: &request.namespace_mappings,
            existing: &existing,
            preserve_node_ports: request.preserve_node_ports,
            status_include: &request.status_include,
            status_exclude: &request.status_exclude,
            restore_volumes: request.restore_volumes,
            resource_modifier,
            hooks: hooks.as_ref().map(Spec::source),
        };
        match submit(session, driven, &wish, &kinds).await {
            Err(Failure::Velero(VeleroError::Exists { .. }))
                if request.name.is_none() && attempt < ATTEMPTS =>
            {
                attempt += 1;
                name = numbered(&made_up, attempt)?;
            }
            done => break done?,
        }
    }
    if !session.common.wait {
        submitted(session.common.output, &name)?;
        return Ok(Exit::Done);
    }
    let run = follow(session, driven, Kind::Restore, name.as_str()).await?;
    let made = read_back(session, driven, bucket.as_ref(), &name, run).await?;
    show(session.common.output, &backup, &name, &made, begun.elapsed())?;
    Ok(Exit::of_phase(&Phase::from(made.run.status.phase)))
}

/// Everything that can be refused is refused before the object exists.
async fn submit(
    session: &Session,
    driven: &Driven,
    wish: &submit::RestoreWish<'_>,
    kinds: &[DiscoveredKind],
) -> Result<(), Failure> {
    let velero = &driven.velero;
    let object = submit::restore(wish, velero.namespace(), kinds)?;
    let checks = async {
        check::not_there(velero, Kind::Restore, wish.name).await?;
        match wish.resource_modifier {
            Some(config_map) => check::config_map_exists(velero, config_map).await,
            None => Ok(()),
        }
    };
    session.unless_interrupted(checks).await?;
    // Not dropped on Ctrl-C: afterwards nobody could say whether it was submitted.
    Ok(velero.submit(Kind::Restore, wish.name.as_str(), &object).await?)
}

/// The backup to restore, which Velero knows by now and can restore.
async fn source(
    session: &Session,
    request: &Restore,
    driven: &Driven,
    bucket: Option<&Arc<dyn Bucket>>,
) -> Result<BackupName, Failure> {
    let Driven { velero, location } = driven;
    let name = match &request.source {
        RestoreSource::Backup(name) => name.clone(),
        RestoreSource::Schedule(schedule) => {
            session
                .unless_interrupted(check::newest_of_schedule(velero, location, schedule))
                .await?
        }
    };
    let watch = session.watch();
    let found = check::backup_object(
        velero,
        location,
        bucket,
        &name,
        &session.progress,
        &session.cancel,
    )
    .await;
    watch.end().await;
    let phase = found?.status.phase;
    if !phase.is_restorable() {
        return Err(VeleroError::NotRestorable {
            what: format!("{}/{name}", velero.namespace()),
            phase: phase.to_string(),
        }
        .into());
    }
    Ok(name)
}

fn submitted(format: OutputFormat, name: &BackupName) -> Result<(), Failure> {
    match format {
        OutputFormat::Name => view::print(&format!("restore/{name}\n"))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            let result = json!({ "name": name, "engine": "velero", "status": "New" });
            document::write(&mut view::out(), format, "RestoreSummary", &result)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            view::print(&format!("restore/{name} submitted\n"))?;
            view::say(&format!(
                "next: `kubectl backup restores describe {name}` shows how it is getting on"
            ));
        }
    }
    Ok(())
}

/// Reads what Velero wrote: from the bucket, else through its API.
async fn read_back(
    session: &Session,
    driven: &Driven,
    bucket: Option<&Arc<dyn Bucket>>,
    name: &BackupName,
    run: Run,
) -> Result<Made, Failure> {
    let mut made = Made {
        run,
        ..Made::default()
    };
    if made.run.status.phase == "FailedValidation" {
        return Ok(made);
    }
    if let Some(bucket) = bucket {
        let read = session.unless_interrupted(fill(&mut made, bucket, name)).await;
        // What is not there, Velero cannot hand out.
        if matches!(read, Ok(()) | Err(Failure::Interrupted)) {
            return read.map(|()| made);
        }
    }
    let fetching = fetch::restore(&driven.velero, &driven.location, name, &FILES, &session.cancel);
    let read = match session.unless_interrupted(fetching).await {
        Ok(Some(fetched)) => {
            session
                .unless_interrupted(fill(&mut made, fetched.bucket(), name))
                .await
        }
        other => other.map(|_| ()),
    };
    match read {
        Ok(()) => {}
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(failure) => view::warn(&format!("what Velero wrote cannot be read: {failure}")),
    }
    Ok(made)
}

async fn fill(made: &mut Made, bucket: &Arc<dyn Bucket>, name: &BackupName) -> Result<(), Failure> {
    let results = catalog::restore_results(bucket, name).await?;
    let objects = catalog::restore_resource_list(bucket, name).await?;
    made.results = results.unwrap_or_default();
    made.kinds = actions(&objects.unwrap_or_default());
    Ok(())
}

/// Velero lists `namespace/name(created)`.
fn actions(objects: &ResourceList) -> BTreeMap<String, Actions> {
    let counted = objects.iter().map(|(kind, names)| {
        let mut actions = Actions::new();
        for name in names {
            let action = name
                .strip_suffix(')')
                .and_then(|name| name.rsplit_once('('))
                .map_or("unknown", |(_, action)| action);
            *actions.entry(action.to_owned()).or_default() += 1;
        }
        (kind.clone(), actions)
    });
    counted.collect()
}

impl Made {
    fn total(&self, action: &str) -> u64 {
        self.kinds
            .values()
            .filter_map(|actions| actions.get(action))
            .sum()
    }
}

fn show(
    format: OutputFormat,
    backup: &BackupName,
    name: &BackupName,
    made: &Made,
    took: Duration,
) -> Result<(), Failure> {
    let status = &made.run.status;
    match format {
        OutputFormat::Name => Ok(view::print(&format!("restore/{name}\n"))?),
        OutputFormat::Json | OutputFormat::Yaml => {
            let result = json!({
                "name": name,
                "engine": "velero",
                "backup": backup,
                "status": status.phase_word(),
                "durationSeconds": took.as_secs_f64(),
                "started": view::timestamp(status.start_timestamp),
                "completed": view::timestamp(status.completion_timestamp),
                "kinds": made.kinds,
                "reasons": reasons(&made.run),
                "errors": made.results.errors.iter().collect::<Vec<_>>(),
                "warnings": made.results.warnings.iter().collect::<Vec<_>>(),
            });
            document::write(&mut view::out(), format, "RestoreSummary", &result)
        }
        OutputFormat::Table | OutputFormat::Wide => {
            if format == OutputFormat::Wide {
                kinds(made).write(&mut view::out())?;
                view::print("\n")?;
            }
            totals(name, made, took).write(&mut view::out())?;
            let more = format!("kubectl backup restores logs {name}");
            messages(&reasons(&made.run), &made.results, &more);
            match status.phase.as_str() {
                "PartiallyFailed" | "Failed" => view::say(
                    "next: remove the cause and restore again under a new name; what is there already stays as it is",
                ),
                "FailedValidation" => view::say("next: correct the request and restore again"),
                _ => {}
            }
            Ok(())
        }
    }
}

fn totals(name: &BackupName, made: &Made, took: Duration) -> Table {
    let status = &made.run.status;
    let mut table = Table::new(&[
        "NAME", "STATUS", "CREATED", "UPDATED", "SKIPPED", "FAILED", "DURATION", "WARNINGS", "ERRORS",
    ]);
    let mut row = vec![name.to_string(), status.phase_word().to_owned()];
    row.extend(["created", "updated", "skipped", "failed"].map(|action| made.total(action).to_string()));
    row.extend([
        view::took(took),
        status.warnings.to_string(),
        status.errors.to_string(),
    ]);
    table.push(row);
    table
}

/// One line a kind.
fn kinds(made: &Made) -> Table {
    let mut table = Table::new(&["KIND", "CREATED", "UPDATED", "SKIPPED", "FAILED"]);
    for (kind, actions) in &made.kinds {
        let mut row = vec![kind.clone()];
        let count = |action: &str| actions.get(action).copied().unwrap_or_default().to_string();
        row.extend(["created", "updated", "skipped", "failed"].map(count));
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_counted_by_kind() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let objects: ResourceList = [
            (
                "v1/Secret".to_owned(),
                names(&["shop/a(created)", "shop/b(created)", "shop/c(skipped)"]),
            ),
            ("v1/Namespace".to_owned(), names(&["shop(created)", "odd"])),
        ]
        .into();
        let made = Made {
            kinds: actions(&objects),
            ..Made::default()
        };
        assert_eq!(made.total("created"), 3);
        assert_eq!(made.total("skipped"), 1);
        assert_eq!(made.kinds["v1/Namespace"]["unknown"], 1);
    }
}
