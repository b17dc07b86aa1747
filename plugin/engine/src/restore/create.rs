//! One POST, and what it came to.
//!
//! In comes the body of an object; out goes what the server made of it, or what is there under its name. A write whose
//! answer was lost is looked up before it is sent again, and a refused one is looked up too: an object that is there is no
//! failure, whatever keeps it from being made now. While a plan is made the same request goes out as a dry run; where the
//! server cannot answer yet, because what the object needs comes with the restore, that is said instead.

use backup_plan::restore::refusal;
use bytes::Bytes;
use velero_model::{item::Head, resource::ApiKind};

use super::{
    RestoreError,
    apply::{Refusal, refused},
    patience::{Cause, Patience, Waited, may_exist, passing},
    report::Subject,
    run::Run,
};
use crate::api::{ApiError, object_path};

/// What a POST came to.
pub(super) enum Written {
    /// The object as the server made it.
    Created(Bytes),
    /// It would be made; the server cannot be asked, for this reason.
    Unasked(String),
    /// The object that was there.
    Existing(Found),
}

/// An object that was there.
pub(super) struct Found {
    pub(super) live: Bytes,
    /// Whether it may have been made by a write of ours whose answer was lost.
    pub(super) perhaps_ours: bool,
    /// What the server said against making it, if it was not that the name is taken.
    pub(super) refusal: Option<String>,
}

/// Creates an object, or finds the one that is there.
pub(super) async fn create(
    run: &Run,
    target: &ApiKind,
    subject: &Subject,
    body: &Bytes,
) -> Result<Written, Refusal> {
    if let Some(reason) = run
        .plan
        .as_ref()
        .and_then(|plan| plan.not_yet_there(target, subject))
    {
        return Ok(Written::Unasked(reason));
    }
    let namespace = subject.namespace.as_deref();
    let collection = target.collection_path(namespace);
    let own_path = object_path(target, namespace, &subject.name);
    let mut patience = Patience::default();
    let mut perhaps_ours = false;
    loop {
        let error = match run.writes.create(&collection, body.clone()).await {
            Ok(answer) => return Ok(Written::Created(answer)),
            Err(error) => error,
        };
        let mut cause = passing(&error);
        perhaps_ours |= cause == Some(Cause::Unknown);
        let is_taken = may_exist(target, &error);
        if is_taken || cause == Some(Cause::Unknown) {
            match run.get(&own_path).await? {
                Some(live) if is_terminating(&live) => cause = Some(Cause::Terminating),
                Some(live) => {
                    return Ok(Written::Existing(Found {
                        live,
                        perhaps_ours,
                        refusal: None,
                    }));
                }
                // It went away in between.
                None if error.is_already_exists() => cause = Some(Cause::Terminating),
                None => {}
            }
        }
        if run.plan.is_some()
            && let Some(answer) = answer_of_a_dry_run(run, subject, &own_path, cause, &error).await?
        {
            return Ok(answer);
        }
        let Some(cause) = cause else {
            return last_word(run, subject, &own_path, perhaps_ours, error).await;
        };
        match patience.wait(cause, &run.stop).await {
            Waited::Again => {}
            Waited::Stopped => return Err(Refusal::Run(RestoreError::Interrupted)),
            Waited::Enough => return Err(given_up(subject, cause, error)),
        }
    }
}

/// What a refused dry run stands for, unless it is the server's last word or passes by itself.
async fn answer_of_a_dry_run(
    run: &Run,
    subject: &Subject,
    own_path: &str,
    cause: Option<Cause>,
    error: &ApiError,
) -> Result<Option<Written>, Refusal> {
    if cause == Some(Cause::Terminating) {
        let reason = "an object of this name is being deleted; the restore waits for it to be gone";
        return Ok(Some(Written::Unasked(reason.to_owned())));
    }
    let message = error.server_message();
    let comes =
        refusal::missing(&message).filter(|missing| run.comes(&missing.resource, subject, &missing.name));
    let reason = match (comes, refusal::without_dry_run(&message)) {
        (Some(missing), _) => format!("{} {} comes with the restore", missing.resource, missing.name),
        (None, Some(webhook)) => format!("webhook {webhook} does not support dry run"),
        (None, None) if cause == Some(Cause::NotYet) && !error.is_conflict() => {
            // Nobody makes it while a plan is made.
            return last_word_of(run, subject, own_path, false, error).await.map(Some);
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(match run.get(own_path).await? {
        Some(live) => Written::Existing(Found {
            live,
            perhaps_ours: false,
            refusal: None,
        }),
        None => Written::Unasked(reason),
    }))
}

async fn last_word(
    run: &Run,
    subject: &Subject,
    own_path: &str,
    perhaps_ours: bool,
    error: ApiError,
) -> Result<Written, Refusal> {
    if error.code() == Some(401) {
        return Err(refused(run, subject, error));
    }
    last_word_of(run, subject, own_path, perhaps_ours, &error).await
}

/// The server does not make it; what is there under its name is all that counts then.
async fn last_word_of(
    run: &Run,
    subject: &Subject,
    own_path: &str,
    perhaps_ours: bool,
    error: &ApiError,
) -> Result<Written, Refusal> {
    let message = refusal::explain(&subject.resource_group, &error.server_message());
    match run.get(own_path).await {
        Ok(Some(live)) if !is_terminating(&live) => Ok(Written::Existing(Found {
            live,
            perhaps_ours,
            refusal: Some(message),
        })),
        Err(Refusal::Run(error)) => Err(Refusal::Run(error)),
        _ => Err(Refusal::Object(message)),
    }
}

pub(super) fn is_terminating(live: &Bytes) -> bool {
    Head::parse(live).is_ok_and(|head| head.metadata.deletion_timestamp.is_some())
}

fn given_up(subject: &Subject, cause: Cause, error: ApiError) -> Refusal {
    match cause {
        Cause::Outage => Refusal::Run(error.into()),
        Cause::Terminating => Refusal::Object(
            "an object of this name is being deleted and does not go away; look at its finalizers, then repeat the \
             restore"
                .to_owned(),
        ),
        Cause::NotYet | Cause::Unknown => {
            Refusal::Object(refusal::explain(&subject.resource_group, &error.server_message()))
        }
    }
}
