//! The hooks of one pod around the reading of its volumes.
//!
//! In come what the annotations said; out go entries for the account. Hooks after run whatever became of the volumes, also
//! when the run is being interrupted: a frozen database must be thawed. Only where the hook before has failed, and says that
//! this matters, is nothing read and nothing run after it, as Velero does; the pod's manifest is in the backup all the same.

use backup_plan::hooks::{OnError, Phase};
use velero_model::outcome::HookOutcome;

use crate::{api::ApiClient, exec, volumes::moves::PodHooks};

/// Runs one; gives its entry, and whether the pod's volumes may be read.
pub(super) async fn run(api: &ApiClient, pod: &PodHooks, phase: Phase) -> Option<(HookOutcome, bool)> {
    let read = match phase {
        Phase::Pre => pod.pre.as_ref()?,
        Phase::Post => pod.post.as_ref()?,
    };
    let mut outcome = HookOutcome {
        namespace: pod.namespace.clone(),
        pod: pod.pod.clone(),
        container: String::new(),
        phase: phase.word().to_owned(),
        error: None,
    };
    let done = match &read.hook {
        Err(reason) => Err(reason.clone()),
        Ok(hook) => {
            outcome.container.clone_from(&hook.container);
            exec::run(
                api,
                &pod.namespace,
                &pod.pod,
                &hook.container,
                &hook.command,
                hook.timeout,
            )
            .await
            .map_err(|error| error.to_string())
        }
    };
    let may_go_on = done.is_ok() || read.on_error == OnError::Continue;
    outcome.error = done.err().map(|error| format!("{} hook: {error}", phase.word()));
    Some((outcome, may_go_on))
}
