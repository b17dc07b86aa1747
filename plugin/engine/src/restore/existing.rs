//! An object of the same name is there already.
//!
//! In come the object of the backup as it would be written and the one of the cluster; out goes what became of it. What is to
//! be done is decided by [`backup_plan::restore::existing`]; here the decision is carried out: by server-side apply, by a PUT
//! on the very object that was compared, by DELETE and POST. An object that somebody else changes meanwhile is looked at and
//! decided about again.

use backup_plan::{
    compare::Difference,
    restore::{
        existing::{self, Action, Decision},
        planned::Checked,
        replacement::replacement,
        transform::{Transformed, owners_of},
    },
};
use bytes::Bytes;
use serde_json::Value;
use velero_model::{index::Entry, item::Head, resource::ApiKind};

use super::{
    RestoreError,
    apply::{Refusal, refused, to_bytes},
    create::{self, Found, Written, is_terminating},
    owners::References,
    patience::{Cause, Patience, Waited},
    report::{Change, Outcome, Subject},
    run::Run,
    writes::repeatable,
};
use crate::api::{PatchKind, object_path};

/// The two sides.
pub(super) struct Existing<'a> {
    /// The kind as the cluster serves it.
    pub(super) target: &'a ApiKind,
    /// Names for messages and paths.
    pub(super) subject: &'a Subject,
    /// The object in the backup.
    pub(super) entry: &'a Entry,
    /// What would be written.
    pub(super) restored: &'a Transformed,
    /// Its owners.
    pub(super) references: &'a References,
}

/// What became of an object that was there.
pub(super) struct Settled {
    pub(super) outcome: Outcome,
    /// Where it differed.
    pub(super) differences: Vec<Difference>,
    /// As it is in the cluster now, as far as is known.
    pub(super) live: Bytes,
    pub(super) checked: Checked,
}

/// How an attempt ended.
enum Tried {
    Done(Outcome, Bytes),
    /// It was changed by somebody else.
    Changed,
}

/// How often an object that others keep changing is looked at.
const TRIES: u32 = 5;

/// Decides what becomes of an object that exists, and does it.
pub(super) async fn settle(run: &Run, existing: &Existing<'_>, mut found: Found) -> Result<Settled, Refusal> {
    for _ in 0..TRIES {
        let live: Value = serde_json::from_slice(&found.live).map_err(|_| {
            Refusal::Object("it exists, and the server's answer about it is no JSON".to_owned())
        })?;
        let decision = decide(run, existing, &live, &found);
        if let Some(note) = decision.note {
            run.note(existing.subject, note);
        }
        let tried = match carry_out(run, existing, &decision, live, &found.live).await {
            Err(Refusal::Object(reason)) => Tried::Done(Outcome::Failed(reason), found.live.clone()),
            tried => tried?,
        };
        if let Tried::Done(outcome, live) = tried {
            return Ok(Settled {
                outcome,
                differences: decision.differences,
                live,
                checked: Checked::DryRun,
            });
        }
        found = match read_again(run, existing).await? {
            Ok(found) => found,
            Err(settled) => return Ok(settled),
        };
    }
    Err(Refusal::Object(format!(
        "it was changed {TRIES} times by others while it was being changed; restore again when they rest"
    )))
}

fn decide(run: &Run, existing: &Existing<'_>, live: &Value, found: &Found) -> Decision {
    existing::decide(&look(run, existing, live, found), &run.rules)
}

fn look<'a>(
    run: &'a Run,
    existing: &'a Existing<'_>,
    live: &'a Value,
    found: &'a Found,
) -> existing::Existing<'a> {
    let owners = &run.selection.owners;
    existing::Existing {
        kind: existing.target,
        restored: existing.restored,
        references: &existing.references.references,
        dropped: &existing.references.dropped,
        live,
        perhaps_ours: found.perhaps_ours,
        resumed_since: run.resumes.as_deref(),
        owner_is_recreated: owners.any_is_recreated(&owners_of(live)),
        owns_earlier_objects: owners.is_awaited(&existing.entry.uid),
        refusal: found.refusal.as_deref(),
    }
}

/// The object as it is now; one that went away meanwhile is made.
async fn read_again(run: &Run, existing: &Existing<'_>) -> Result<Result<Found, Settled>, Refusal> {
    let body = to_bytes(&existing.restored.body)?;
    Ok(
        match create::create(run, existing.target, existing.subject, &body).await? {
            Written::Existing(found) => Ok(found),
            Written::Created(live) => Err(Settled::made(live, Checked::DryRun)),
            Written::Unasked(reason) => Err(Settled::made(Bytes::new(), Checked::NotPossible(reason))),
        },
    )
}

impl Settled {
    fn made(live: Bytes, checked: Checked) -> Self {
        Self {
            outcome: Outcome::Created,
            differences: Vec::new(),
            live,
            checked,
        }
    }
}

async fn carry_out(
    run: &Run,
    existing: &Existing<'_>,
    decision: &Decision,
    live: Value,
    bytes: &Bytes,
) -> Result<Tried, Refusal> {
    let done = |outcome| Ok(Tried::Done(outcome, bytes.clone()));
    match &decision.action {
        Action::IsMade => done(Outcome::Made),
        Action::IsUpdated => done(Outcome::Updated(Change::Applied)),
        Action::Unchanged => done(Outcome::Unchanged),
        Action::Leave => done(Outcome::Differs(
            decision
                .differences
                .iter()
                .map(|difference| difference.path.clone())
                .collect(),
        )),
        Action::Refuse(reason) => Err(Refusal::Object(reason.clone())),
        Action::Complete(patch) => complete(run, existing, patch).await,
        Action::Update => update(run, existing).await,
        Action::Replace => replace(run, existing, &live).await,
        Action::Recreate => recreate(run, existing, bytes).await,
    }
}

async fn complete(run: &Run, existing: &Existing<'_>, patch: &Value) -> Result<Tried, Refusal> {
    let (path, body) = (existing.path(), to_bytes(patch)?);
    match repeatable(run, || run.writes.patch(&path, &PatchKind::Merge, body.clone())).await? {
        Ok(live) => Ok(Tried::Done(Outcome::Updated(Change::Completed), live)),
        Err(error) => Err(refused(run, existing.subject, error)),
    }
}

/// Server-side apply. Fields that others own are named before they are taken: the policy says that the backup wins, and the
/// other manager may set them again.
async fn update(run: &Run, existing: &Existing<'_>) -> Result<Tried, Refusal> {
    let (path, body) = (existing.path(), to_bytes(&existing.restored.body)?);
    let answer = match repeatable(run, || run.writes.apply(&path, body.clone(), false)).await? {
        Err(error) if error.is_conflict() => {
            let message = format!("fields of others were set: {}", error.server_message());
            run.note(existing.subject, &message);
            repeatable(run, || run.writes.apply(&path, body.clone(), true)).await?
        }
        answer => answer,
    };
    match answer {
        Ok(live) => {
            say_what_is_left(run, existing, "updated", &live);
            Ok(Tried::Done(Outcome::Updated(Change::Applied), live))
        }
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(Tried::Changed),
        Err(error) => Err(refused(run, existing.subject, error)),
    }
}

/// PUT on the object that was compared: it carries its UID and resource version.
async fn replace(run: &Run, existing: &Existing<'_>, live: &Value) -> Result<Tried, Refusal> {
    let path = existing.path();
    let body = to_bytes(&replacement(existing.target, &existing.restored.body, live))?;
    match repeatable(run, || run.writes.replace(&path, body.clone())).await? {
        Ok(live) => {
            say_what_is_left(run, existing, "replaced", &live);
            Ok(Tried::Done(Outcome::Updated(Change::Replaced), live))
        }
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(Tried::Changed),
        Err(error) => Err(refused(run, existing.subject, error)),
    }
}

/// What the object still has that the backup does not.
fn say_what_is_left(run: &Run, existing: &Existing<'_>, done: &str, live: &Bytes) {
    let Ok(value) = serde_json::from_slice::<Value>(live) else {
        return;
    };
    let found = Found {
        live: live.clone(),
        perhaps_ours: false,
        refusal: None,
    };
    let left = existing::differences(&look(run, existing, &value, &found), &run.rules);
    if !left.is_empty() {
        let paths: Vec<_> = left.into_iter().map(|difference| difference.path).collect();
        let message = format!(
            "{done}; it still has what the backup does not hold: {}",
            paths.join(", ")
        );
        run.note(existing.subject, &message);
    }
}

/// DELETE and POST. The garbage collector goes for what the object owns; what of that comes later in this restore is made
/// anew too.
async fn recreate(run: &Run, existing: &Existing<'_>, live: &Bytes) -> Result<Tried, Refusal> {
    let (path, uid) = (existing.path(), uid(live));
    match repeatable(run, || run.writes.delete(&path, &uid)).await? {
        Ok(()) => {}
        Err(error) if error.is_conflict() => return Ok(Tried::Changed),
        Err(error) => return Err(refused(run, existing.subject, error)),
    }
    run.selection.owners.note_recreated(&uid);
    let done = |live| Ok(Tried::Done(Outcome::Updated(Change::Recreated), live));
    if run.plan.is_some() {
        return done(Bytes::new());
    }
    // From here on the object that was found is no more, whatever happens.
    let gone = |reason: String| Ok(Tried::Done(Outcome::Failed(reason), Bytes::new()));
    match wait_until_gone(run, &path, &uid).await {
        Err(Refusal::Object(reason)) => return gone(reason),
        waited => waited?,
    }
    let body = to_bytes(&existing.restored.body)?;
    match create::create(run, existing.target, existing.subject, &body).await {
        Ok(Written::Created(live)) => done(live),
        // A controller was faster.
        Ok(Written::Existing(found)) if found.refusal.is_none() => Ok(Tried::Changed),
        Ok(Written::Existing(_) | Written::Unasked(_)) => gone(lost("somebody else has made another")),
        Err(Refusal::Object(reason)) => gone(lost(&reason)),
        Err(refusal) => Err(refusal),
    }
}

fn lost(reason: &str) -> String {
    format!(
        "it was deleted and could not be made anew: {reason}; the backup holds it: remove the cause and restore it again"
    )
}

async fn wait_until_gone(run: &Run, path: &str, uid_before: &str) -> Result<(), Refusal> {
    let mut patience = Patience::default();
    loop {
        let live = match run.get(path).await? {
            Some(live) if uid(&live) == uid_before => live,
            _ => return Ok(()),
        };
        match patience.wait(Cause::Terminating, &run.stop).await {
            Waited::Again => {}
            Waited::Stopped => return Err(Refusal::Run(RestoreError::Interrupted)),
            Waited::Enough => return Err(Refusal::Object(still_there(&live))),
        }
    }
}

fn still_there(live: &Bytes) -> String {
    let finalizers = serde_json::from_slice::<Value>(live).ok().and_then(|live| {
        let names = live["metadata"]["finalizers"].as_array()?;
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        (!names.is_empty()).then(|| names.join(", "))
    });
    let held = match finalizers {
        Some(finalizers) => format!(
            "its finalizers {finalizers} hold it; see that what they stand for is done, or remove them"
        ),
        None if is_terminating(live) => "its grace period runs".to_owned(),
        None => "the server has not begun to delete it".to_owned(),
    };
    format!("it was deleted to be made anew and does not go away: {held}, then restore it again")
}

fn uid(live: &Bytes) -> String {
    Head::parse(live)
        .map(|head| head.metadata.uid.into_owned())
        .unwrap_or_default()
}

impl Existing<'_> {
    fn path(&self) -> String {
        object_path(self.target, self.subject.namespace.as_deref(), &self.subject.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_holds_an_object_is_named() {
        let text = |metadata: Value| still_there(&json!({"metadata": metadata}).to_string().into());
        let held = text(json!({"finalizers": ["a.io/x", "b"], "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert!(held.contains("its finalizers a.io/x, b hold it"), "{held}");
        assert!(text(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})).contains("grace period"));
        assert!(text(json!({})).contains("not begun"));
    }
}
