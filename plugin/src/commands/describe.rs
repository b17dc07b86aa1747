//! `describe`: all about a backup, under Velero's headings where Velero has one.

use backup_engine::{
    catalog::{self, OpenBackup},
    clock,
};
use backup_plan::human;
use serde_json::{Value, json};
use velero_model::{
    api_object::DownloadTargetKind as File,
    backup::{BackupSpec, Metadata},
    name::BackupName,
    outcome::{Hooks, Outcome},
    resource_list::ResourceList,
    results::{Messages, Results},
    time,
    volume::VolumeInfo,
};

use super::{preview, velero};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view::{self, describe::Description, document},
};

/// A backup with its side files.
struct Described {
    backup: OpenBackup,
    outcome: Option<Outcome>,
    results: Option<Results>,
    volumes: Vec<VolumeInfo>,
    names: Option<ResourceList>,
}

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    names: &[BackupName],
    details: bool,
) -> Result<Exit, Failure> {
    let mut files = vec![File::BackupResults, File::BackupVolumeInfos];
    if details {
        files.push(File::BackupResourceList);
    }
    let mut described = Vec::new();
    for name in names {
        let found = velero::read::backup(session, place, name, &files).await?;
        // What was fetched is read before its folder goes.
        described.push(
            session
                .unless_interrupted(read(found.backup.clone(), details))
                .await?,
        );
    }
    let format = session.common.output;
    match (format, described.as_slice()) {
        (OutputFormat::Json | OutputFormat::Yaml, [one]) => {
            document::write(&mut view::out(), format, "BackupDescription", &result(one))?;
        }
        (OutputFormat::Json | OutputFormat::Yaml, several) => {
            let results: Vec<Value> = several.iter().map(result).collect();
            document::write(&mut view::out(), format, "BackupDescriptionList", &results)?;
        }
        (_, several) => {
            let texts: Vec<String> = several.iter().map(text).collect();
            view::print(&texts.join("\n\n"))?;
        }
    }
    Ok(Exit::Done)
}

/// Reads the side files. A damaged one is named and hides none of the others.
async fn read(backup: OpenBackup, details: bool) -> Result<Described, catalog::CatalogError> {
    let outcome = readable(backup.outcome().await)?.flatten();
    let results = readable(backup.results().await)?.flatten();
    let volumes = readable(backup.volume_infos().await)?.unwrap_or_default();
    let names = if details {
        readable(backup.resource_list().await)?.flatten()
    } else {
        None
    };
    Ok(Described {
        backup,
        outcome,
        results,
        volumes,
        names,
    })
}

fn readable<T>(read: Result<T, catalog::CatalogError>) -> Result<Option<T>, catalog::CatalogError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_damage() => {
            view::warn(&error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn result(described: &Described) -> Value {
    let backup = &described.backup;
    let notes = backup.notes();
    let files: Vec<Value> = backup
        .files()
        .iter()
        .map(|file| json!({ "key": file.key, "size": file.size }))
        .collect();
    json!({
        "name": backup.name(),
        "backup": backup.backup(),
        "size": backup.size(),
        "files": files,
        "hold": notes.hold.is_some(),
        "holdReason": notes.hold.clone().flatten(),
        "expires": view::timestamp(notes.expiration.unwrap_or(backup.backup().status.expiration)),
        "outcome": described.outcome,
        "results": described.results,
        "volumes": described.volumes,
        "resources": described.names,
    })
}

fn text(described: &Described) -> String {
    let mut text = Description::default();
    let backup = described.backup.backup();
    metadata(&mut text, &backup.metadata);
    text.field("Phase", backup.status.phase.to_string());
    for (field, name) in [
        ("validationErrors", "Validation errors"),
        ("failureReason", "Failure reason"),
    ] {
        if let Some(said) = backup.status.other.get(field) {
            text.beside(name, said_by_velero(said));
        }
    }
    text.field("Cluster", source(described));
    text.blank();
    scope(&mut text, &backup.spec);
    text.blank();
    times(&mut text, described);
    text.blank();
    objects(&mut text, described);
    text.blank();
    messages(
        &mut text,
        "Errors",
        described.results.as_ref().map(|results| &results.errors),
        backup.status.errors,
    );
    messages(
        &mut text,
        "Warnings",
        described.results.as_ref().map(|results| &results.warnings),
        backup.status.warnings,
    );
    text.blank();
    files(&mut text, described);
    if let Some(names) = &described.names {
        text.blank();
        text.heading("Resource List");
        for (kind, objects) in names {
            text.nested_list(kind, objects.iter().cloned());
        }
    }
    text.text()
}

fn metadata(text: &mut Description, metadata: &Metadata) {
    let pairs = |map: &Option<std::collections::BTreeMap<String, String>>| -> Vec<String> {
        map.iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    };
    text.field("Name", metadata.name.clone());
    text.field("Namespace", metadata.namespace.clone().unwrap_or_default());
    text.beside("Labels", pairs(&metadata.labels));
    text.beside("Annotations", pairs(&metadata.annotations));
}

/// A text or several.
fn said_by_velero(said: &Value) -> Vec<String> {
    match said {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

fn source(described: &Described) -> String {
    let source = described.backup.backup().source();
    let parts: Vec<String> = [source.cluster_name, source.cluster_uid, source.kubernetes_version]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(", ")
}

fn scope(text: &mut Description, spec: &BackupSpec) {
    let list = |words: &Option<Vec<String>>, empty: &str| match words.as_deref() {
        None | Some([]) => empty.to_owned(),
        Some(words) => words.join(", "),
    };
    text.heading("Namespaces");
    text.inner("Included", list(&spec.included_namespaces, "*"));
    text.inner("Excluded", list(&spec.excluded_namespaces, ""));
    text.heading("Resources");
    let scoped = [
        &spec.included_cluster_scoped_resources,
        &spec.excluded_cluster_scoped_resources,
        &spec.included_namespace_scoped_resources,
        &spec.excluded_namespace_scoped_resources,
    ];
    if scoped
        .iter()
        .any(|words| words.as_ref().is_some_and(|words| !words.is_empty()))
    {
        let [in_cluster, not_in_cluster, in_namespaces, not_in_namespaces] = scoped;
        text.inner("Included cluster-scoped", list(in_cluster, ""));
        text.inner("Excluded cluster-scoped", list(not_in_cluster, ""));
        text.inner("Included namespace-scoped", list(in_namespaces, "*"));
        text.inner("Excluded namespace-scoped", list(not_in_namespaces, ""));
    } else {
        text.inner("Included", list(&spec.included_resources, "*"));
        text.inner("Excluded", list(&spec.excluded_resources, ""));
        text.inner(
            "Cluster-scoped",
            match spec.include_cluster_resources {
                None => "auto",
                Some(true) => "included",
                Some(false) => "excluded",
            },
        );
    }
    text.field(
        "Label selector",
        spec.label_selector.as_ref().map(selector).unwrap_or_default(),
    );
    let alternatives = spec
        .or_label_selectors
        .iter()
        .flatten()
        .map(selector)
        .collect::<Vec<_>>();
    text.field("Or label selector", alternatives.join(" or "));
    text.field(
        "Storage Location",
        spec.storage_location.clone().unwrap_or_default(),
    );
    text.field("TTL", spec.ttl.map(|ttl| ttl.to_string()).unwrap_or_default());
    let ordered: Vec<String> = spec
        .ordered_resources
        .iter()
        .flatten()
        .map(|(kind, objects)| format!("{kind}: {objects}"))
        .collect();
    text.beside("OrderedResources", ordered);
}

/// A LabelSelector in kubectl's text form; what that form cannot say stays JSON.
fn selector(selector: &Value) -> String {
    serde_json::from_value::<backup_plan::selector::LabelSelector>(selector.clone())
        .ok()
        .and_then(|selector| backup_plan::selector::Selector::try_from(&selector).ok())
        .map_or_else(|| selector.to_string(), |selector| selector.to_string())
}

fn times(text: &mut Description, described: &Described) {
    let status = &described.backup.backup().status;
    let notes = described.backup.notes();
    text.field(
        "Backup Format Version",
        status.format_version.clone().unwrap_or_default(),
    );
    text.field(
        "Started",
        status.start_timestamp.map(time::format).unwrap_or_default(),
    );
    text.field(
        "Completed",
        status.completion_timestamp.map(time::format).unwrap_or_default(),
    );
    let expiration = notes.expiration.unwrap_or(status.expiration);
    let left = view::expires(expiration, clock::now());
    text.field(
        "Expiration",
        match expiration {
            Some(at) => format!("{} ({left})", time::format(at)),
            None => left,
        },
    );
    text.field(
        "Hold",
        match &notes.hold {
            None => String::new(),
            Some(None) => "yes".to_owned(),
            Some(Some(reason)) => reason.clone(),
        },
    );
}

fn objects(text: &mut Description, described: &Described) {
    let progress = described.backup.backup().status.progress.unwrap_or_default();
    text.field("Total items to be backed up", progress.total_items.to_string());
    text.field("Items backed up", progress.items_backed_up.to_string());
    let Some(outcome) = &described.outcome else {
        return;
    };
    let has_data = outcome.volumes.data;
    text.field(
        "Volume data",
        if has_data {
            "yes"
        } else {
            "none: claims are manifests only"
        },
    );
    let kinds = outcome.kinds.iter().filter(|kind| kind.stored > 0);
    text.list(
        "Objects by kind",
        kinds.map(|kind| format!("{}: {}", kind.kind.resource_group(), kind.stored)),
    );
    let related = outcome
        .related
        .iter()
        .map(|(reason, count)| format!("{reason}: {count}"));
    text.list("Related objects", related);
    text.list("Left out", preview::left_out_lines(outcome));
    text.list("Volumes", volumes(described));
    if !outcome.hooks.is_empty() {
        text.list("Hooks", hook_lines(&outcome.hooks));
    }
}

/// Commands that were run in pods, a line each.
pub(super) fn hook_lines(hooks: &Hooks) -> Vec<String> {
    let hooks = hooks.items.iter();
    hooks
        .map(|hook| {
            let ended = hook.error.as_deref().unwrap_or("done");
            format!(
                "{} {}/{} ({}): {ended}",
                hook.phase, hook.namespace, hook.pod, hook.container
            )
        })
        .collect()
}

fn volumes(described: &Described) -> Vec<String> {
    let volumes = described.volumes.iter();
    volumes
        .map(|volume| {
            let claim = format!("{}/{}", volume.pvc_namespace, volume.pvc_name);
            match (volume.skipped, volume.snapshot_data_moved) {
                (true, _) => format!("{claim}: left out, {}", volume.skipped_reason),
                (false, true) => format!(
                    "{claim}: {} with its data moved, {}",
                    volume.backup_method, volume.result
                ),
                (false, false) => format!("{claim}: {} {}", volume.backup_method, volume.result),
            }
        })
        .collect()
}

fn messages(text: &mut Description, heading: &str, messages: Option<&Messages>, count: u64) {
    let Some(messages) = messages else {
        text.field(heading, count.to_string());
        return;
    };
    text.field(heading, count.to_string());
    for message in &messages.velero {
        text.inner("Tool", message.clone());
    }
    for message in &messages.cluster {
        text.inner("Cluster", message.clone());
    }
    for (namespace, messages) in &messages.namespaces {
        for message in messages {
            text.inner(namespace, message.clone());
        }
    }
}

fn files(text: &mut Description, described: &Described) {
    let backup = &described.backup;
    text.field("Size", human::bytes(backup.size()));
    text.field(
        "Written by",
        match (backup.is_ours(), backup.was_written_by_us()) {
            (true, _) => format!("kubectl-backup {}", backup.backup().source().tool_version),
            (false, true) => {
                "kubectl-backup, but its index or digests are missing; run `kubectl backup verify`".to_owned()
            }
            (false, false) => "Velero".to_owned(),
        },
    );
    let folder = backup.keys().folder();
    let names = backup.files().iter().map(|file| {
        let name = file.key.strip_prefix(&folder).unwrap_or(&file.key);
        format!("{name} ({})", human::bytes(file.size))
    });
    text.list("Files", names);
}
