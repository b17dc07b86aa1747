//! Following a Job: the logs of its pods as they come, what keeps them from starting, and how it ended.
//!
//! In comes the name of a Job in our namespace; lines go to the caller, out comes a [`Followed`]. An API server that is away for
//! a while is waited for by the client; a log that breaks off is said to, and not taken up again: the Job's end is what counts.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::list;
use crate::{
    api::{ApiClient, ApiError, object_path},
    schedule::{NAMESPACE, kind},
};

/// Between two looks.
const POLL: Duration = Duration::from_millis(700);

/// How the following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The Job is over.
    Ended(Ended),
    /// The Job is not there (any more).
    Gone,
    /// The caller wanted no more of it; the Job goes on.
    Interrupted,
}

/// How a Job ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether it calls itself complete.
    pub is_complete: bool,
    /// Why not: `BackoffLimitExceeded`, `DeadlineExceeded`.
    pub reason: String,
    /// The same in words.
    pub message: String,
    /// Exit code of its last container, where that is still known.
    pub exit_code: Option<i64>,
}

pub(super) async fn job(api: &ApiClient, name: &str) -> Result<Option<Value>, ApiError> {
    let path = object_path(&kind("batch", "jobs", "Job", true), Some(NAMESPACE), name);
    let body = api.get(&path).await?;
    Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
}

/// How a Job ended, if it did.
pub(super) fn ended(job: &Value) -> Option<Ended> {
    let conditions = job["status"]["conditions"].as_array()?;
    let condition = conditions.iter().find(|condition| {
        condition["status"] == "True" && (condition["type"] == "Complete" || condition["type"] == "Failed")
    })?;
    let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    Some(Ended {
        is_complete: condition["type"] == "Complete",
        reason: text("reason"),
        message: text("message"),
        exit_code: None,
    })
}

/// What keeps a pod from starting that rarely goes away by itself, in words; `None` where nothing does or nobody knows yet.
pub(crate) fn hindrance(pod: &Value) -> Option<String> {
    let name = pod["metadata"]["name"].as_str()?;
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    let reason = waiting["reason"].as_str().unwrap_or_default();
    if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
        let message = waiting["message"].as_str().unwrap_or_default();
        return Some(format!("pod {name}: {reason}: {message}"));
    }
    let conditions = pod["status"]["conditions"].as_array()?;
    let unscheduled = conditions
        .iter()
        .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")?;
    let message = unscheduled["message"].as_str().unwrap_or_default();
    Some(format!("pod {name} has no node: {message}"))
}

fn has_begun(pod: &Value) -> bool {
    let state = &pod["status"]["containerStatuses"][0]["state"];
    state["running"].is_object() || state["terminated"].is_object()
}

fn exit_code(pods: &[Value]) -> Option<i64> {
    let newest = pods.iter().max_by_key(|pod| {
        pod["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    })?;
    newest["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
}

/// Follows a Job to its end. Lines of the pods' logs go to `line`, what hinders them to `hint`.
///
/// # Errors
/// When the server cannot be asked.
pub async fn follow(
    api: &ApiClient,
    name: &str,
    cancel: &CancellationToken,
    mut line: impl FnMut(&str),
    mut hint: impl FnMut(&str),
) -> Result<Followed, ApiError> {
    let mut read = BTreeSet::new();
    let mut hinted = BTreeSet::new();
    let selector = format!("batch.kubernetes.io/job-name={name}");
    loop {
        let look = async {
            let job = job(api, name).await?;
            let pods = list(api, "", "pods", "Pod", Some(NAMESPACE), &selector).await?;
            Ok::<_, ApiError>((job, pods))
        };
        let (job, pods) = tokio::select! {
            looked = look => looked?,
            () = cancel.cancelled() => return Ok(Followed::Interrupted),
        };
        for pod in &pods {
            let Some(pod_name) = pod["metadata"]["name"].as_str() else {
                continue;
            };
            if has_begun(pod) && read.insert(pod_name.to_owned()) {
                tokio::select! {
                    done = log(api, pod_name, &mut line) => done?,
                    () = cancel.cancelled() => return Ok(Followed::Interrupted),
                }
            } else if let Some(found) = hindrance(pod)
                && hinted.insert(found.clone())
            {
                hint(&found);
            }
        }
        let Some(job) = job else {
            return Ok(Followed::Gone);
        };
        if let Some(mut ended) = ended(&job) {
            ended.exit_code = exit_code(&pods);
            return Ok(Followed::Ended(ended));
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = cancel.cancelled() => return Ok(Followed::Interrupted),
        }
    }
}

/// Passes the log of a pod on until its container ends. A log that cannot be read is not worth a failure: the Job's end
/// counts.
async fn log(api: &ApiClient, pod: &str, line: &mut impl FnMut(&str)) -> Result<(), ApiError> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/log?follow=true");
    let mut chunks = match api.stream(&path).await {
        Ok(chunks) => chunks,
        Err(error) => {
            line(&format!("(the log of pod {pod} cannot be read: {error})"));
            return Ok(());
        }
    };
    let mut rest: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else {
            line(&format!("(the log of pod {pod} broke off)"));
            break;
        };
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = rest.drain(..=end).collect();
            line(String::from_utf8_lossy(&whole).trim_end_matches(['\r', '\n']));
        }
    }
    if !rest.is_empty() {
        line(&String::from_utf8_lossy(&rest));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_is_told_from_what_comes_before_it() {
        let job = |kind: &str| {
            json!({ "status": { "conditions": [
                { "type": "FailureTarget", "status": "True" },
                { "type": kind, "status": "True", "reason": "DeadlineExceeded", "message": "too long" },
            ] } })
        };
        assert_eq!(ended(&json!({ "status": {} })), None);
        assert_eq!(ended(&job("Suspended")), None);
        assert!(ended(&job("Complete")).unwrap().is_complete);
        let failed = ended(&job("Failed")).unwrap();
        assert_eq!(
            (failed.is_complete, failed.reason.as_str()),
            (false, "DeadlineExceeded")
        );
    }

    #[test]
    fn what_hinders_a_pod_is_said() {
        let waiting = |reason: &str| {
            json!({ "metadata": { "name": "p" }, "status": { "containerStatuses": [
                { "state": { "waiting": { "reason": reason, "message": "no such image" } } },
            ] } })
        };
        assert_eq!(
            hindrance(&waiting("ErrImagePull")).as_deref(),
            Some("pod p: ErrImagePull: no such image")
        );
        assert_eq!(hindrance(&waiting("ContainerCreating")), None);
        let homeless = json!({ "metadata": { "name": "p" }, "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" },
        ] } });
        assert!(hindrance(&homeless).unwrap().contains("0/1 nodes"));
    }
}
