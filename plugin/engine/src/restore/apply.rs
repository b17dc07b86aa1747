//! One object: from its JSON in the backup to what became of it in the cluster.
//!
//! The order of things: is it what the index says, is there a rule against it, what does it look like now, who are its
//! owners; then one POST, which is all that most objects need. A name that is taken goes to [`super::existing`]. A write whose
//! answer was lost is looked up before it is sent again. Everything that concerns the object alone ends in its outcome; only
//! what ends the whole run (nobody answers any more, our credentials are void) is an error.

use std::sync::Arc;

use backup_plan::restore::{
    never::object_never_restored,
    transform::{Owner, Transformed, owners_of, transform},
};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;
use velero_model::{index::Entry, item::Head, resource::ApiKind};

use super::{
    RestoreError,
    existing::{self, Existing},
    form::{self, Formed},
    owners::{References, State},
    patience::{Cause, Patience, Waited, may_exist, passing},
    pending::Waiting,
    report::{Outcome, Subject},
    request::is_label,
    run::Run,
    volumes,
    window::Item,
};
use crate::{
    api::{ApiError, PatchKind, object_path},
    catalog::CatalogError,
};

/// The field manager of everything that a restore writes.
pub(super) const FIELD_MANAGER: &str = "kubectl-backup";

/// Why an object is not written.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It concerns this object.
    Object(String),
    /// It ends the run.
    Run(RestoreError),
}

impl Refusal {
    /// The stored bytes are no object.
    pub(super) fn not_json() -> Self {
        Self::Object(
            "what the backup holds is no JSON; `kubectl backup verify` says what else is damaged".to_owned(),
        )
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        if error.is_damage() {
            Self::Object(error.to_string())
        } else {
            Self::Run(error.into())
        }
    }
}

impl From<RestoreError> for Refusal {
    fn from(error: RestoreError) -> Self {
        Self::Run(error)
    }
}

/// What became of an object, and its UID in the cluster if that is wanted.
struct Done {
    outcome: Outcome,
    uid: Option<Uuid>,
}

impl From<Outcome> for Done {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, uid: None }
    }
}

/// Restores an object of a step.
pub(super) async fn apply(run: Arc<Run>, item: Item) -> Result<(), RestoreError> {
    if let Some(chosen) = run.selection.kinds.get(&item.entry.resource_group) {
        entry(&run, &chosen.kind, &item.entry, item.json).await?;
    }
    Ok(())
}

/// Restores one object and reports what became of it.
pub(super) async fn entry(
    run: &Run,
    kind: &ApiKind,
    entry: &Entry,
    json: Result<Bytes, CatalogError>,
) -> Result<(), RestoreError> {
    let subject = run.subject(kind, entry);
    let written = match json {
        Ok(json) => Box::pin(write(run, kind, entry, &subject, &json)).await,
        Err(error) => Err(error.into()),
    };
    let done = match written {
        Ok(done) => done,
        Err(Refusal::Object(reason)) => Outcome::Failed(with_advice(run, &subject, reason)).into(),
        Err(Refusal::Run(error)) => return Err(error),
    };
    let state = match (&done.outcome, done.uid) {
        (_, Some(uid)) => State::Known(uid),
        (Outcome::Skipped(_), None) => State::LeftOut,
        _ => State::Gone,
    };
    run.selection.owners.settle(&entry.uid, state);
    run.settled(&subject, done.outcome);
    Ok(())
}

/// What the user can do about a refusal that an option of the restore brought on.
fn with_advice(run: &Run, subject: &Subject, reason: String) -> String {
    let is_about_address = subject.resource_group == "services" && reason.contains("spec.clusterIP");
    if is_about_address && run.options.preserve_cluster_ips {
        return format!("{reason}; without --preserve-cluster-ips the service gets an address that is free");
    }
    reason
}

async fn write(
    run: &Run,
    kind: &ApiKind,
    entry: &Entry,
    subject: &Subject,
    json: &Bytes,
) -> Result<Done, Refusal> {
    let Formed { target, object } = form::formed(run, kind, entry, json).await?;
    let target = &target;
    check_names(kind, entry, subject, &object)?;
    run.note_service(kind, &object);
    look_up_owners(run, &owners_of(&object), entry, subject).await?;
    if let Some(rule) = object_never_restored(kind, &object, run) {
        return Ok(Outcome::Skipped(rule.id()).into());
    }
    let fate = volumes::fate(run, kind, &object, subject).await?;
    let mut transformed = transform(kind, object, &run.options, &|_| fate);
    run.note_applied(&transformed.applied);
    if let Some(problem) = transformed.problem {
        return Err(Refusal::Object(problem));
    }
    say_notes(run, subject, &transformed);
    let references = run.selection.owners.references(&transformed.owners, false);
    say_dropped(run, subject, &references.dropped);
    if !references.references.is_empty() {
        transformed.body["metadata"]["ownerReferences"] = Value::Array(references.references.clone());
    }
    let body = to_bytes(&transformed.body)?;
    let (outcome, live, existed) = match create(run, target, subject, body).await? {
        Written::Created(answer) => (Outcome::Created, answer, false),
        Written::Existing { live, perhaps_ours } => {
            let existing = Existing {
                target,
                subject,
                restored: &transformed,
                references: &references,
                perhaps_ours,
            };
            let outcome = existing::settle(run, &existing, &live).await?;
            (outcome, live, true)
        }
    };
    after(
        run,
        target,
        subject,
        entry,
        &transformed,
        &references,
        outcome,
        (&live, existed),
    )
    .await
}

/// What is left to do once the object is there.
#[allow(
    clippy::too_many_arguments,
    reason = "everything that is known about one object"
)]
async fn after(
    run: &Run,
    target: &ApiKind,
    subject: &Subject,
    entry: &Entry,
    transformed: &Transformed,
    references: &References,
    outcome: Outcome,
    (live, existed): (&Bytes, bool),
) -> Result<Done, Refusal> {
    let is_ours = matches!(outcome, Outcome::Created | Outcome::Updated);
    // A run that was killed may have left it without its owners.
    let lost_owners = existed && !references.references.is_empty() && !has_owners(live);
    let waits = is_ours && (references.later || lost_owners);
    let status = transformed.status.as_ref().filter(|_| is_ours);
    if !waits && status.is_none() && !run.selection.owners.wants(&entry.uid) {
        return Ok(outcome.into());
    }
    let uid = Head::parse(live)
        .map(|head| head.metadata.uid.into_owned())
        .unwrap_or_default();
    if let Some(status) = status {
        restore_status(run, target, subject, status).await?;
    }
    if waits {
        let waiting = Waiting {
            path: object_path(target, subject.namespace.as_deref(), &subject.name),
            uid: uid.clone(),
            resource_group: subject.resource_group.clone(),
            namespace: subject.namespace.clone(),
            name: subject.name.clone(),
            owners: transformed.owners.clone(),
        };
        run.postpone(&waiting)
            .map_err(|error| Refusal::Run(RestoreError::Temporary(error)))?;
    }
    Ok(Done {
        outcome,
        uid: Uuid::parse_str(&uid).ok(),
    })
}

fn has_owners(live: &Bytes) -> bool {
    Head::parse(live).is_ok_and(|head| {
        head.metadata
            .owner_references
            .is_some_and(|owners| !owners.is_empty())
    })
}

/// The object must be the one that the index names: what is asked about by name must be what is written.
fn check_names(kind: &ApiKind, entry: &Entry, subject: &Subject, object: &Value) -> Result<(), Refusal> {
    let metadata = &object["metadata"];
    let same = metadata["name"].as_str() == Some(&entry.name)
        && metadata["namespace"].as_str().filter(|name| !name.is_empty()) == entry.namespace.as_deref()
        && object["kind"].as_str().is_none_or(|name| name == kind.kind);
    if !same {
        return Err(Refusal::Object(
            "the archive holds another object in its place; `kubectl backup verify` says what else is damaged".to_owned(),
        ));
    }
    let namespace_is_good = match &subject.namespace {
        Some(namespace) => kind.namespaced && is_label(namespace),
        None => !kind.namespaced,
    };
    if !namespace_is_good || !is_path_segment(&entry.name) {
        return Err(Refusal::Object(
            "its name or namespace is none that a cluster can have".to_owned(),
        ));
    }
    Ok(())
}

/// Kubernetes' rule for every name.
fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}

/// Asks for owners that are not restored: one that lives still, in this very cluster, stays the owner.
async fn look_up_owners(
    run: &Run,
    owners: &[Owner],
    entry: &Entry,
    subject: &Subject,
) -> Result<(), Refusal> {
    for owner in owners {
        if run.selection.owners.state(&owner.uid) == State::Outside {
            let state = living(run, owner, entry, subject).await?;
            run.selection.owners.settle_outside(&owner.uid, state);
        }
    }
    Ok(())
}

async fn living(run: &Run, owner: &Owner, entry: &Entry, subject: &Subject) -> Result<State, Refusal> {
    let served = run.served();
    let Some(kind) = served.by_reference(&owner.api_version, &owner.kind) else {
        return Ok(State::Gone);
    };
    // An owner lives in its object's namespace; a mapped object leaves it behind.
    if !is_path_segment(&owner.name) || (kind.namespaced && entry.namespace != subject.namespace) {
        return Ok(State::Gone);
    }
    let live = run
        .get(&object_path(kind, subject.namespace.as_deref(), &owner.name))
        .await?;
    let uid = live.and_then(|live| Some(Head::parse(&live).ok()?.metadata.uid.into_owned()));
    Ok(
        match uid
            .filter(|uid| *uid == owner.uid)
            .map(|uid| Uuid::parse_str(&uid))
        {
            Some(Ok(uid)) => State::Known(uid),
            _ => State::Gone,
        },
    )
}

fn say_notes(run: &Run, subject: &Subject, transformed: &Transformed) {
    for note in &transformed.notes {
        run.report.warn(
            subject.namespace.as_deref(),
            &format!("{}: {note}", subject.text()),
        );
    }
}

fn say_dropped(run: &Run, subject: &Subject, dropped: &[Owner]) {
    for owner in dropped {
        run.report.log(&format!(
            "{}: its owner {} {} is neither restored nor alive, the reference is dropped",
            subject.text(),
            owner.kind,
            owner.name
        ));
    }
}

pub(super) fn to_bytes(value: &Value) -> Result<Bytes, Refusal> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Refusal::Object(format!("it cannot be written as JSON: {error}")))
}

/// What a POST came to.
enum Written {
    /// The object as the server made it.
    Created(Bytes),
    /// The object that was there.
    Existing {
        live: Bytes,
        /// Whether it may have been made by a write of ours whose answer was lost.
        perhaps_ours: bool,
    },
}

async fn create(run: &Run, target: &ApiKind, subject: &Subject, body: Bytes) -> Result<Written, Refusal> {
    let namespace = subject.namespace.as_deref();
    let path = format!(
        "{}?fieldManager={FIELD_MANAGER}",
        target.collection_path(namespace)
    );
    let own_path = object_path(target, namespace, &subject.name);
    let mut patience = Patience::default();
    let mut perhaps_ours = false;
    loop {
        let error = match run.api.create(&path, body.clone()).await {
            Ok(answer) => return Ok(Written::Created(answer)),
            Err(error) => error,
        };
        let cause = passing(&error);
        perhaps_ours |= cause == Some(Cause::Unknown);
        let is_taken = may_exist(target, &error);
        let mut cause_of_wait = cause;
        if is_taken || cause == Some(Cause::Unknown) {
            match run.get(&own_path).await? {
                Some(live) if is_terminating(&live) => cause_of_wait = Some(Cause::Terminating),
                Some(live) => return Ok(Written::Existing { live, perhaps_ours }),
                // It went away in between.
                None if error.is_already_exists() => cause_of_wait = Some(Cause::Terminating),
                None => {}
            }
        }
        let Some(cause) = cause_of_wait else {
            return Err(refused(run, error));
        };
        match patience.wait(cause, &run.stop).await {
            Waited::Again => {}
            Waited::Stopped => return Err(Refusal::Run(RestoreError::Interrupted)),
            Waited::Enough => return Err(given_up(cause, error)),
        }
    }
}

fn is_terminating(live: &Bytes) -> bool {
    Head::parse(live).is_ok_and(|head| head.metadata.deletion_timestamp.is_some())
}

/// The server's last word.
pub(super) fn refused(run: &Run, error: ApiError) -> Refusal {
    if error.code() == Some(401) {
        run.stop.cancel();
        return Refusal::Run(error.into());
    }
    Refusal::Object(error.server_message())
}

fn given_up(cause: Cause, error: ApiError) -> Refusal {
    match cause {
        Cause::Outage => Refusal::Run(error.into()),
        Cause::Terminating => Refusal::Object(
            "an object of this name is being deleted and does not go away; look at its finalizers, then repeat the \
             restore"
                .to_owned(),
        ),
        Cause::NotYet | Cause::Unknown => Refusal::Object(error.server_message()),
    }
}

async fn restore_status(
    run: &Run,
    target: &ApiKind,
    subject: &Subject,
    status: &Value,
) -> Result<(), Refusal> {
    let namespace = subject.namespace.as_deref();
    let path = format!("{}/status", object_path(target, namespace, &subject.name));
    let body = to_bytes(&json!({"status": status}))?;
    if let Err(error) = run.api.patch(&path, &PatchKind::Merge, body).await {
        let reason = format!("restored without its status: {}", error.server_message());
        run.report.error(&subject.text(), namespace, &reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_object_that_the_index_names_is_written() {
        let kind = |namespaced| ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: "configmaps".into(),
            kind: "ConfigMap".into(),
            namespaced,
        };
        let check = |namespaced, namespace: Option<&str>, name: &str, object: &Value| {
            let entry = Entry {
                resource_group: "configmaps".into(),
                namespace: namespace.map(str::to_owned),
                name: name.into(),
                member: 0,
                member_length: 0,
                offset: 0,
                size: 0,
                uid: String::new(),
                owners: vec![],
                labels: std::collections::BTreeMap::new(),
            };
            let subject = Subject {
                kind: kind(namespaced),
                resource_group: "configmaps".into(),
                namespace: namespace.map(str::to_owned),
                name: name.into(),
            };
            check_names(&kind(namespaced), &entry, &subject, object).is_ok()
        };
        let object = |namespace: Value, name: &str| json!({"kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}});
        assert!(check(true, Some("a"), "x", &object(json!("a"), "x")));
        assert!(!check(true, Some("a"), "x", &object(json!("b"), "x")));
        assert!(!check(true, Some("a"), "x", &object(json!("a"), "y")));
        assert!(!check(
            true,
            Some("a"),
            "x",
            &json!({"kind": "Secret", "metadata": {"namespace": "a", "name": "x"}})
        ));
        assert!(!check(true, Some("../b"), "x", &object(json!("../b"), "x")));
        assert!(!check(true, Some("a"), "..", &object(json!("a"), "..")));
        assert!(!check(true, None, "x", &object(json!(null), "x")));
        assert!(check(false, None, "x", &object(json!(null), "x")));
        assert!(check(
            false,
            None,
            "system:node",
            &object(json!(""), "system:node")
        ));
        assert!(!check(false, None, "a/b", &object(json!(null), "a/b")));
    }
}
