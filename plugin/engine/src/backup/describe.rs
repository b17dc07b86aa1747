//! What a finished backup says of itself: the account, the Backup object, Velero's results and log.
//!
//! Pure: from what was found to documents. The phase follows from the account alone.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use backup_plan::{
    resource_names::ResourceNames,
    scope::Scope,
    selector::{LabelSelector, Selector},
};
use jiff::Timestamp;
use serde_json::Value;
use velero_model::{
    backup::{
        API_VERSION, Backup, BackupSpec, BackupStatus, FORMAT_VERSION, Metadata, Progress,
        STORAGE_LOCATION_LABEL,
    },
    name::label_value,
    outcome::Outcome,
    phase::Phase,
    results::Results,
    source::{LOCKED_UNTIL, Source, VELERO_SCHEDULE},
    time,
};

use super::{BackupError, BackupRequest, collect::Findings, expiration, inventory::Inventory};

/// Reasons that an error about everything shows.
const REASONS: usize = 3;

/// Why a run that stored nothing ended so.
pub(super) fn nothing(findings: &Findings) -> BackupError {
    let reasons = findings
        .kinds
        .iter()
        .filter_map(|kind| Some(format!("{}: {}", kind.kind, kind.error.as_ref()?)));
    let reasons: Vec<String> = reasons.take(REASONS).collect();
    if reasons.is_empty() {
        BackupError::NothingToBackUp
    } else {
        BackupError::NothingReadable { reasons }
    }
}

/// The account of a run.
pub(super) fn outcome(
    inventory: Inventory,
    findings: Findings,
    related: BTreeMap<String, u64>,
    source: Source,
    started: Timestamp,
    completed: Timestamp,
) -> Outcome {
    let mut kinds = findings.kinds;
    kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
    let mut warnings = inventory.warnings;
    if findings.terminating > 0 {
        warnings.push(format!(
            "{} objects were being deleted while they were stored",
            findings.terminating
        ));
    }
    for kind in kinds.iter().filter(|kind| !kind.point_in_time) {
        warnings.push(format!(
            "{}: the list took so long that it does not show one moment",
            kind.kind
        ));
    }
    let claims: u64 = kinds
        .iter()
        .filter(|kind| kind.kind.resource_group() == "persistentvolumeclaims")
        .map(|kind| kind.stored)
        .sum();
    if claims > 0 {
        warnings.push(format!("{claims} claims: manifests only, no data"));
    }
    Outcome {
        version: 1,
        source,
        started: Some(started),
        completed: Some(completed),
        kinds,
        not_listed: inventory.not_listed,
        related,
        warnings,
        ..Outcome::default()
    }
}

/// The Backup object.
pub(super) fn backup(
    request: &BackupRequest,
    outcome: &Outcome,
    started: Timestamp,
    completed: Timestamp,
) -> Backup {
    let errors = outcome.errors().len() as u64;
    let mut labels = request.labels.clone();
    labels.insert(
        STORAGE_LOCATION_LABEL.into(),
        label_value(&request.storage_location),
    );
    if let Some(schedule) = &request.schedule {
        labels.insert(VELERO_SCHEDULE.into(), label_value(schedule));
    }
    let mut annotations = request.annotations.clone();
    annotations.extend(outcome.source.annotations());
    if let Some(until) = request.lock_until {
        annotations.insert(LOCKED_UNTIL.into(), time::format(until));
    }
    Backup {
        api_version: API_VERSION.into(),
        kind: "Backup".into(),
        metadata: Metadata {
            name: request.name.to_string(),
            namespace: Some(request.velero_namespace.clone()),
            creation_timestamp: Some(started),
            labels: Some(labels),
            annotations: Some(annotations),
            ..Metadata::default()
        },
        spec: spec(request),
        status: BackupStatus {
            version: Some(1),
            format_version: Some(FORMAT_VERSION.into()),
            phase: if errors == 0 {
                Phase::Completed
            } else {
                Phase::PartiallyFailed
            },
            start_timestamp: Some(started),
            completion_timestamp: Some(completed),
            expiration: expiration(started, request.ttl),
            progress: Some(Progress {
                total_items: outcome.stored(),
                items_backed_up: outcome.stored(),
            }),
            errors,
            warnings: outcome.warnings.len() as u64,
            other: [("hookStatus".to_owned(), hook_status(&outcome.hooks))]
                .into_iter()
                .collect(),
        },
        other: serde_json::Map::new(),
    }
}

/// What was asked for, in Velero's words.
pub(crate) fn spec(request: &BackupRequest) -> BackupSpec {
    let Scope {
        included_namespaces,
        excluded_namespaces,
        included_resources,
        excluded_resources,
        include_cluster_resources,
        included_cluster_scoped,
        excluded_cluster_scoped,
        included_namespace_scoped,
        excluded_namespace_scoped,
        selector,
        or_selector,
        ordered,
    } = &request.scope;
    let everything = || vec!["*".to_owned()];
    let listed = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let words = |names: &ResourceNames| listed(names.words());
    let as_json = |selector: &Selector| serde_json::to_value(LabelSelector::from(selector)).ok();
    BackupSpec {
        included_namespaces: Some(listed(included_namespaces).unwrap_or_else(everything)),
        excluded_namespaces: listed(excluded_namespaces),
        included_resources: words(included_resources),
        excluded_resources: words(excluded_resources),
        included_cluster_scoped_resources: words(included_cluster_scoped),
        excluded_cluster_scoped_resources: words(excluded_cluster_scoped),
        included_namespace_scoped_resources: words(included_namespace_scoped),
        excluded_namespace_scoped_resources: words(excluded_namespace_scoped),
        include_cluster_resources: *include_cluster_resources,
        label_selector: Some(selector)
            .filter(|selector| !selector.is_empty())
            .and_then(as_json),
        or_label_selectors: (!or_selector.is_empty())
            .then(|| or_selector.alternatives().iter().filter_map(as_json).collect()),
        ordered_resources: (!ordered.is_empty()).then(|| {
            ordered
                .kinds()
                .iter()
                .map(|(kind, objects)| (kind.clone(), objects.join(",")))
                .collect()
        }),
        ttl: request.ttl,
        storage_location: Some(request.storage_location.clone()),
        other: BackupSpec::velero_defaults(),
    }
}

/// Velero's errors and warnings: those about an object under its namespace, the rest under the cluster.
pub(super) fn results(outcome: &Outcome) -> Results {
    let of_objects: HashMap<String, Option<&str>> = outcome
        .kinds
        .iter()
        .flat_map(|kind| kind.failed.iter().map(move |failed| (kind, failed)))
        .map(|(kind, failed)| {
            let namespace = failed.object.split_once('/').map(|(namespace, _)| namespace);
            let sentence = format!("{} {}: {}", kind.kind, failed.object, failed.error);
            (sentence, namespace)
        })
        .collect();
    let mut results = Results::default();
    for error in outcome.errors() {
        results
            .errors
            .push(of_objects.get(&error).copied().flatten(), error);
    }
    for warning in &outcome.warnings {
        results.warnings.push(None, warning.clone());
    }
    results
}

/// The log in Velero's form.
/// As Velero has it: nothing where there were none.
fn hook_status(hooks: &velero_model::outcome::Hooks) -> Value {
    if hooks.attempted == 0 {
        return Value::Object(serde_json::Map::new());
    }
    let mut status = serde_json::json!({ "hooksAttempted": hooks.attempted });
    if hooks.failed > 0 {
        status["hooksFailed"] = hooks.failed.into();
    }
    status
}

/// Adds what became of the volumes; what was said about claims is said anew.
pub(super) fn with_volumes(outcome: &mut Outcome, volumes: velero_model::outcome::Volumes) {
    if !volumes.data {
        return;
    }
    let claims: u64 = outcome
        .kinds
        .iter()
        .filter(|kind| kind.kind.resource_group() == "persistentvolumeclaims")
        .map(|kind| kind.stored)
        .sum();
    let stored = volumes
        .items
        .iter()
        .filter(|item| item.snapshot.is_some())
        .count() as u64;
    outcome
        .warnings
        .retain(|warning| !warning.ends_with("claims: manifests only, no data"));
    if claims > stored {
        outcome.warnings.push(format!(
            "{stored} of {claims} claims with data; the others are opted in by no pod, or could not be read"
        ));
    }
    outcome.volumes = volumes;
}

pub(super) fn log(request: &BackupRequest, outcome: &Outcome) -> String {
    let mut log = String::new();
    let at = |time: Option<Timestamp>| time.map(time::format).unwrap_or_default();
    let backup = format!("{}/{}", request.velero_namespace, request.name);
    let mut line = |time: Option<Timestamp>, level: &str, message: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(
            log,
            "time={:?} level={level} msg={message:?} backup={backup}",
            at(time)
        );
    };
    let (begin, end) = (outcome.started, outcome.completed);
    let source = &outcome.source;
    line(
        begin,
        "info",
        &format!(
            "Backup of cluster {:?} by kubectl-backup {}",
            source.cluster_name, source.tool_version
        ),
    );
    for kind in &outcome.kinds {
        line(
            end,
            "info",
            &format!(
                "{}: {} seen, {} stored, {} skipped",
                kind.kind,
                kind.seen,
                kind.stored,
                kind.skipped_count()
            ),
        );
    }
    for left_out in outcome.not_listed.iter().filter(|left_out| !left_out.is_error) {
        line(
            end,
            "info",
            &format!("{} not listed: {}", left_out.what, left_out.reason),
        );
    }
    for warning in &outcome.warnings {
        line(end, "warning", warning);
    }
    for error in outcome.errors() {
        line(end, "error", &error);
    }
    line(end, "info", &format!("{} objects stored", outcome.stored()));
    log
}

#[cfg(test)]
mod tests {
    use velero_model::{
        outcome::{FailedObject, KindOutcome, NotListed},
        resource::ApiKind,
    };

    use super::*;

    #[test]
    fn errors_are_filed_under_their_namespace_and_the_rest_under_the_cluster() {
        let mut kind = KindOutcome::new(ApiKind {
            group: "apps".into(),
            version: "v1".into(),
            plural: "deployments".into(),
            kind: "Deployment".into(),
            namespaced: true,
        });
        kind.seen = 2;
        kind.failed = ["shop/web", "orphan"]
            .map(|object| FailedObject {
                object: object.to_owned(),
                error: "it cannot be read".into(),
            })
            .into();
        kind.error = Some("the list broke off".into());
        let outcome = Outcome {
            kinds: vec![kind],
            not_listed: vec![NotListed {
                what: "group x/v1".into(),
                rule: "error".into(),
                reason: "503".into(),
                is_error: true,
            }],
            ..Outcome::default()
        };
        let results = results(&outcome);
        assert_eq!(
            results.errors.namespaces["shop"],
            ["deployments.apps shop/web: it cannot be read"]
        );
        assert_eq!(
            results.errors.cluster,
            [
                "deployments.apps: the list broke off",
                "deployments.apps orphan: it cannot be read",
                "group x/v1: 503"
            ]
        );
        assert_eq!(results.errors.len(), outcome.errors().len());
    }
}
