//! The namespaces that a restore needs.
//!
//! In comes the selection; afterwards each namespace with selected objects is there, with its own metadata where the backup
//! holds it. One that is there is left as it is. One that is being deleted is waited for: everything in it would be refused.

use std::{sync::Arc, time::Duration};

use backup_plan::restore::{planned::Checked, refusal};
use serde_json::{Value, json};
use tokio::time::Instant;
use velero_model::{item::Head, resource::ApiKind};

use super::{
    RestoreError,
    apply::{self, Done, Refusal},
    report::{Outcome, Subject},
    request::is_label,
    run::Run,
    window::Window,
};
use crate::api::{ApiError, object_path};

const NAMESPACES: &str = "namespaces";

/// How long a namespace that is being deleted is waited for.
const TERMINATION: Duration = Duration::from_mins(2);

const PAUSE: Duration = Duration::from_millis(500);

fn kind() -> ApiKind {
    ApiKind {
        group: String::new(),
        version: "v1".to_owned(),
        plural: NAMESPACES.to_owned(),
        kind: "Namespace".to_owned(),
        namespaced: false,
    }
}

/// Makes all namespaces that are needed.
pub(super) async fn ensure_all(run: &Arc<Run>) -> Result<(), RestoreError> {
    run.progress.set_step("making namespaces");
    let mut window = Window::new(run);
    for namespace in run.selection.namespaces.clone() {
        if !window
            .start(|run| async move { ensure(&run, &namespace).await })
            .await
        {
            break;
        }
    }
    window.finish().await?;
    run.check_interrupted()
}

/// What a look at a namespace found.
enum Found {
    There,
    Nothing,
    /// It is being deleted and does not go away.
    Terminating,
    /// We may not look.
    Hidden,
}

async fn ensure(run: &Run, namespace: &str) -> Result<(), RestoreError> {
    let name = run.options.map_namespace(namespace).to_owned();
    let subject = Subject {
        kind: kind(),
        resource_group: NAMESPACES.to_owned(),
        namespace: None,
        name: name.clone(),
    };
    let is_selected = run.selection.selected_namespaces.contains(namespace);
    if !is_label(&name) {
        run.settled(
            &subject,
            Outcome::Failed("its name is none that a namespace can have".to_owned()).into(),
        );
        return Ok(());
    }
    let found = match look(run, &name).await {
        Ok(found) => found,
        Err(Refusal::Run(error)) => return Err(error),
        Err(Refusal::Object(reason)) => {
            run.settled(&subject, Outcome::Failed(reason).into());
            return Ok(());
        }
    };
    match found {
        Found::There if !is_selected => Ok(()),
        Found::There | Found::Nothing => restore(run, namespace, &subject).await,
        Found::Terminating if run.plan.is_some() => {
            let reason = "a namespace of this name is being deleted; the restore waits for it to be gone";
            run.settled(&subject, Done::made(Checked::NotPossible(reason.to_owned())));
            Ok(())
        }
        Found::Terminating => {
            let reason = format!(
                "it is being deleted and is still there after {} s; look at its status.conditions, then repeat the restore",
                TERMINATION.as_secs()
            );
            run.settled(&subject, Outcome::Failed(reason).into());
            Ok(())
        }
        Found::Hidden => {
            let message =
                format!("namespaces {name}: no permission to look at it, so it is taken to be there");
            run.report.warn(None, &message);
            if is_selected {
                run.settled(&subject, Outcome::Skipped("not-permitted").into());
            }
            Ok(())
        }
    }
}

/// Looks at a namespace until it is there for good, or gone.
async fn look(run: &Run, name: &str) -> Result<Found, Refusal> {
    let path = object_path(&kind(), None, name);
    let began = Instant::now();
    let mut is_told = false;
    loop {
        let live = match run.try_get(&path).await? {
            Ok(live) => live,
            Err(error) if error.is_forbidden() => return Ok(Found::Hidden),
            Err(error) => return Err(Refusal::Object(error.server_message())),
        };
        let Some(live) = live else {
            return Ok(Found::Nothing);
        };
        if !Head::parse(&live).is_ok_and(|head| head.metadata.deletion_timestamp.is_some()) {
            return Ok(Found::There);
        }
        if run.plan.is_some() || began.elapsed() >= TERMINATION {
            return Ok(Found::Terminating);
        }
        if !is_told {
            is_told = true;
            run.progress.note(format!(
                "namespace {name} is being deleted; waiting up to {} s for it to be gone",
                TERMINATION.as_secs()
            ));
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = run.stop.cancelled() => return Err(Refusal::Run(RestoreError::Interrupted)),
        }
    }
}

/// Restores the namespace from the backup, or makes a bare one.
async fn restore(run: &Run, namespace: &str, subject: &Subject) -> Result<(), RestoreError> {
    let stored = run.stored(NAMESPACES, namespace).await?;
    let stored_kind = run.objects.directory().kind(NAMESPACES).cloned();
    if let Some(((entry, json), kind)) = stored.zip(stored_kind) {
        return apply::entry(run, &kind, &entry, json).await;
    }
    let collection = kind().collection_path(None);
    match run
        .writes
        .create(&collection, bare(&subject.name).to_string().into())
        .await
    {
        Ok(_) => {
            let message = "not in the backup, made without labels";
            run.note(subject, message);
            run.settled(subject, Done::made(Checked::DryRun));
        }
        Err(error) if error.is_already_exists() || matches!(error, ApiError::Ambiguous { .. }) => {}
        Err(error) => {
            let reason = refusal::explain(NAMESPACES, &error.server_message());
            run.settled(subject, Outcome::Failed(reason).into());
        }
    }
    Ok(())
}

fn bare(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}
