//! One object: from its JSON in the backup to what became of it in the cluster.
//!
//! The order of things: is it what the index says, is there a rule against it, what does it look like now, who are its
//! owners; then one POST, which is all that most objects need. A name that is taken goes to [`super::existing`]. A write whose
//! answer was lost is looked up before it is sent again. Everything that concerns the object alone ends in its outcome; only
//! what ends the whole run (nobody answers any more, our credentials are void) is an error.

use std::sync::Arc;

use backup_plan::{
    compare::Difference,
    restore::{
        never::{Never, object_never_restored},
        planned::Checked,
        refusal,
        transform::{Owner, Transformed, owners_of, transform},
    },
};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;
use velero_model::{index::Entry, item::Head, resource::ApiKind};

use super::{
    RestoreError, checks,
    create::{self, Written},
    early,
    existing::{self, Existing, Settled},
    form::{self, Formed},
    hooks,
    owners::{References, State},
    pending::Waiting,
    plan::is_definition,
    report::{Change, Outcome, Subject},
    request::is_label,
    run::Run,
    volumes,
    window::Item,
    writes::repeatable,
};
use crate::{
    api::{ApiError, PatchKind, object_path},
    catalog::CatalogError,
};

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

/// What became of an object.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    /// Its UID in the cluster, if that is wanted.
    pub(super) uid: Option<Uuid>,
    /// Where it differed from the one that was there.
    pub(super) differences: Vec<Difference>,
    /// Whether the server was asked, while a plan is made.
    pub(super) checked: Checked,
}

impl From<Outcome> for Done {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            uid: None,
            differences: Vec::new(),
            checked: Checked::default(),
        }
    }
}

impl Done {
    /// It was made, or would be.
    pub(super) fn made(checked: Checked) -> Self {
        Self {
            checked,
            ..Outcome::Created.into()
        }
    }
}

/// Restores an object of a step.
pub(super) async fn apply(run: Arc<Run>, item: Item) -> Result<(), RestoreError> {
    if early::is_made(&run, &item.entry) {
        return Ok(());
    }
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
    let is_planned = run.plan.is_some()
        && matches!(
            done.outcome,
            Outcome::Created | Outcome::Updated(Change::Recreated)
        );
    let state = match (&done.outcome, done.uid) {
        (_, Some(uid)) => State::Known(uid),
        // Its UID is known when it is made.
        _ if is_planned => State::Expected,
        (Outcome::Skipped(_), None) => State::LeftOut,
        _ => State::Gone,
    };
    run.selection.owners.settle(&entry.uid, state);
    run.settled(&subject, done);
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
    let rule = object_never_restored(kind, &object, run);
    let hooks = hooks::of(run, kind, &object, subject);
    if let Some(rule) = rule {
        if let Some(hooks) = hooks.filter(|_| rule == Never::MadeByController) {
            run.expect_hooks(hooks.left_to_its_controller(run, subject));
        }
        return Ok(Outcome::Skipped(rule.id()).into());
    }
    let fate = volumes::fate(run, kind, &object, subject).await?;
    let managed_fields = (run.request.managed_fields && run.plan.is_none())
        .then(|| object["metadata"]["managedFields"].clone())
        .filter(Value::is_array);
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
    let with_hooks = hooks
        .as_ref()
        .and_then(|hooks| hooks.with_containers(&transformed.body));
    let restoring = Restoring {
        target,
        subject,
        entry,
        transformed: &transformed,
        with_hooks: with_hooks.as_ref(),
        references: &references,
        managed_fields,
    };
    let (settled, existed) = restoring.post(run).await?;
    if let Some(hooks) = hooks.filter(|_| !existed) {
        run.expect_hooks(hooks.announced(run, subject));
    }
    if run.plan.is_some() {
        checks::look(run, target, subject, &transformed.body, &settled.outcome).await?;
    }
    restoring.after(run, settled, existed).await
}

/// Everything that is known about one object.
struct Restoring<'a> {
    target: &'a ApiKind,
    subject: &'a Subject,
    entry: &'a Entry,
    transformed: &'a Transformed,
    /// The same with the containers of its hooks, as it is made where it is not there.
    with_hooks: Option<&'a Value>,
    references: &'a References,
    /// As the backup holds them, if they are to be put back.
    managed_fields: Option<Value>,
}

impl Restoring<'_> {
    /// Makes the object, or settles with the one that is there; also says whether one was.
    async fn post(&self, run: &Run) -> Result<(Settled, bool), Refusal> {
        let body = to_bytes(self.with_hooks.unwrap_or(&self.transformed.body))?;
        let made = |live, checked| Settled {
            outcome: Outcome::Created,
            differences: Vec::new(),
            live,
            checked,
        };
        Ok(
            match create::create(run, self.target, self.subject, &body).await? {
                Written::Created(live) if self.references.later => {
                    let without = "without its owners, whose UIDs are not known before they are made";
                    (made(live, Checked::DryRunOnly(without.to_owned())), false)
                }
                Written::Created(live) => (made(live, Checked::DryRun), false),
                Written::Unasked(reason) => (made(Bytes::new(), Checked::NotPossible(reason)), false),
                Written::Existing(found) => {
                    let existing = Existing {
                        target: self.target,
                        subject: self.subject,
                        entry: self.entry,
                        restored: self.transformed,
                        references: self.references,
                    };
                    (existing::settle(run, &existing, found).await?, true)
                }
            },
        )
    }

    /// What is left to do once the object is there.
    async fn after(&self, run: &Run, settled: Settled, existed: bool) -> Result<Done, Refusal> {
        let Settled {
            outcome,
            differences,
            live,
            checked,
        } = settled;
        let mut done = Done {
            outcome,
            uid: None,
            differences,
            checked,
        };
        if run.plan.is_some() {
            return Ok(self.after_planning(run, done, &live));
        }
        let is_ours = matches!(
            done.outcome,
            Outcome::Created | Outcome::Made | Outcome::Updated(_)
        );
        // A run that was killed may have left it without its owners.
        let lost_owners = existed && !self.references.references.is_empty() && !has_owners(&live);
        let waits = is_ours && (self.references.later || lost_owners);
        let status = self.transformed.status.as_ref().filter(|_| is_ours);
        let managed_fields = self.managed_fields.as_ref().filter(|_| is_ours);
        let is_wanted = run.selection.owners.wants(&self.entry.uid);
        if !waits && !is_wanted && status.is_none() && managed_fields.is_none() {
            return Ok(done);
        }
        let uid = uid_of(&live);
        if let Some(status) = status {
            restore_status(run, self.target, self.subject, status).await?;
        }
        if let Some(managed_fields) = managed_fields {
            restore_managed_fields(run, self.target, self.subject, &uid, managed_fields).await?;
        }
        done.uid = Uuid::parse_str(&uid).ok();
        if waits {
            self.postpone(run, uid)?;
        }
        Ok(done)
    }

    /// The UID of a dry run is not real; that of an object that stays is.
    fn after_planning(&self, run: &Run, mut done: Done, live: &Bytes) -> Done {
        let is_new = matches!(
            done.outcome,
            Outcome::Created | Outcome::Updated(Change::Recreated)
        );
        if !is_new && run.selection.owners.wants(&self.entry.uid) {
            done.uid = Uuid::parse_str(&uid_of(live)).ok();
        }
        let is_written = is_new || matches!(done.outcome, Outcome::Updated(_));
        if let Some(plan) = &run.plan
            && is_written
            && is_definition(self.subject)
        {
            plan.expect_kinds(&self.transformed.body);
        }
        done
    }

    fn postpone(&self, run: &Run, uid: String) -> Result<(), Refusal> {
        let waiting = Waiting {
            path: object_path(self.target, self.subject.namespace.as_deref(), &self.subject.name),
            uid,
            resource_group: self.subject.resource_group.clone(),
            namespace: self.subject.namespace.clone(),
            name: self.subject.name.clone(),
            owners: self.transformed.owners.clone(),
        };
        run.postpone(&waiting)
            .map_err(|error| Refusal::Run(RestoreError::Temporary(error)))
    }
}

fn uid_of(live: &Bytes) -> String {
    Head::parse(live)
        .map(|head| head.metadata.uid.into_owned())
        .unwrap_or_default()
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
        run.note(subject, &note.to_string());
    }
}

fn say_dropped(run: &Run, subject: &Subject, dropped: &[Owner]) {
    for owner in dropped {
        run.remark(
            subject,
            &format!(
                "its owner {} {} is neither restored nor alive, the reference is dropped",
                owner.kind, owner.name
            ),
        );
    }
}

pub(super) fn to_bytes(value: &Value) -> Result<Bytes, Refusal> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Refusal::Object(format!("it cannot be written as JSON: {error}")))
}

/// The server's last word about an object.
pub(super) fn refused(run: &Run, subject: &Subject, error: ApiError) -> Refusal {
    if error.code() == Some(401) {
        run.stop.cancel();
        return Refusal::Run(error.into());
    }
    Refusal::Object(refusal::explain(&subject.resource_group, &error.server_message()))
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
    if let Err(error) = run.writes.patch(&path, &PatchKind::Merge, body).await {
        let reason = format!("restored without its status: {}", error.server_message());
        run.report.error(&subject.text(), namespace, &reason);
    }
    Ok(())
}

/// Puts the `managedFields` of the backup back, as Velero does. The UID makes the patch meet this very object.
async fn restore_managed_fields(
    run: &Run,
    target: &ApiKind,
    subject: &Subject,
    uid: &str,
    managed_fields: &Value,
) -> Result<(), Refusal> {
    let namespace = subject.namespace.as_deref();
    let path = object_path(target, namespace, &subject.name);
    let body = to_bytes(&json!({"metadata": {"uid": uid, "managedFields": managed_fields}}))?;
    let sent = repeatable(run, || run.writes.patch(&path, &PatchKind::Merge, body.clone()));
    if let Err(error) = sent.await? {
        let reason = format!("restored without its managedFields: {}", error.server_message());
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
