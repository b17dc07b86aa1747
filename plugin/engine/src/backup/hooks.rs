//! The hooks of one pod around the reading of its volumes.
//!
//! In comes what annotations or a spec said; out go entries for the account. Hooks after run whatever became of the volumes, also
//! when the run is being interrupted: a frozen database must be thawed. Where a hook before has failed, and says that this
//! matters, nothing is read, and nothing run after it unless another one before has succeeded; the pod's manifest is in the
//! backup all the same.

use backup_plan::hooks::{OnError, Phase, Read};
use velero_model::outcome::HookOutcome;

use crate::{api::ApiClient, exec, volumes::moves::PodHooks};

/// Runs those of a phase; gives their entries, and whether the pod's volumes may be read.
pub(super) async fn run(api: &ApiClient, pod: &PodHooks, phase: Phase) -> (Vec<HookOutcome>, bool) {
    let reads = match phase {
        Phase::Pre => &pod.pre,
        Phase::Post => &pod.post,
    };
    let mut outcomes = Vec::with_capacity(reads.len());
    for read in reads {
        let (outcome, may_go_on) = one(api, pod, phase, read).await;
        outcomes.push(outcome);
        // What is to be thawed is thawed, whatever became of the one before.
        if !may_go_on && phase == Phase::Pre {
            return (outcomes, false);
        }
    }
    (outcomes, true)
}

async fn one(api: &ApiClient, pod: &PodHooks, phase: Phase, read: &Read) -> (HookOutcome, bool) {
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
    (outcome, may_go_on)
}
