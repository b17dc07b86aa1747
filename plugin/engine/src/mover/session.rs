//! One mover from its Job to its report.
//!
//! In come the Job, the request and, where the pod may not reach the location itself, the repository's files; out goes what
//! the mover reported. The Job is deleted when this ends, however it ends; where this program is killed, the connection
//! breaks, the mover ends and the Job goes by its own rules.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use serde_json::{Value, json};
use tokio::{io::BufReader, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use velero_model::mover::{Report, Request, Stored, Written};

use super::{
    objects::{self, Mover},
    remote,
    wire::{self, Down, Up},
};
use crate::{
    api::{ApiClient, ApiError},
    jobs::{hindrance, list},
    repository::Files,
    schedule::{kind, path_of},
};

/// Longest wait for a pod to run, image pull and attachment of the volume included.
const STARTS_WITHIN: Duration = Duration::from_mins(5);

/// Longest wait for something that rarely gets better by itself, such as an image that cannot be pulled.
const HINDERED: Duration = Duration::from_secs(45);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(400);

/// Bytes on their way into a pod.
const PIPE: usize = 1 << 20;

/// What a mover came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// A snapshot.
    Stored(Stored),
    /// A folder.
    Written(Written),
}

impl Done {
    /// The snapshot.
    ///
    /// # Errors
    /// [`MoverError::Failed`] when it is something else, which a mover of another version might say.
    pub fn stored(self) -> Result<Stored, MoverError> {
        match self {
            Self::Stored(stored) => Ok(stored),
            Self::Written(_) => Err(MoverError::something_else()),
        }
    }

    /// The folder.
    ///
    /// # Errors
    /// As [`Self::stored`].
    pub fn written(self) -> Result<Written, MoverError> {
        match self {
            Self::Written(written) => Ok(written),
            Self::Stored(_) => Err(MoverError::something_else()),
        }
    }
}

/// Why it came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum MoverError {
    /// Its pod does not run.
    #[error("mover {name} does not start: {reason}")]
    DoesNotStart {
        /// Namespace and name.
        name: String,
        /// Why, in the cluster's words.
        reason: String,
    },
    /// The connection into its pod broke before it had reported.
    #[error("the connection to mover {name} broke before it was done: {reason}")]
    Broken {
        /// Namespace and name.
        name: String,
        /// Why.
        reason: String,
    },
    /// It said that it did not succeed.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
        /// Whether it could not reach the location from where it was.
        is_unreachable: bool,
    },
    /// The caller wanted no more.
    #[error("interrupted")]
    Interrupted,
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl MoverError {
    fn something_else() -> Self {
        Self::Failed {
            reason: "the mover did something else than it was asked for".to_owned(),
            is_unreachable: false,
        }
    }
}

/// Runs a mover. `progress` hears bytes that are done and in all.
///
/// # Errors
/// [`MoverError`]; then there is no snapshot of it, or the folder is not what it should be.
pub async fn run(
    api: &ApiClient,
    mover: &Mover,
    request: Request,
    files: Arc<dyn Files>,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<Done, MoverError> {
    let job = objects::job(mover);
    let jobs = kind("batch", "jobs", "Job", true).collection_path(Some(&mover.namespace));
    api.create(&jobs, job.to_string().into()).await?;
    let work = async {
        let pod = pod(api, mover).await?;
        converse(api, mover, &pod, request, files, progress).await
    };
    let done = tokio::select! {
        done = work => done,
        () = cancel.cancelled() => Err(MoverError::Interrupted),
    };
    let removed = remove(api, &job).await;
    let done = done?;
    if let Err(error) = removed {
        // It goes by itself, a minute later.
        tracing::debug!(%error, "a mover's Job is not deleted");
    }
    Ok(done)
}

async fn remove(api: &ApiClient, job: &Value) -> Result<(), ApiError> {
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background" });
    api.delete_with(&path_of(job), options.to_string().into()).await
}

fn called(mover: &Mover) -> String {
    format!("{}/{}", mover.namespace, mover.name)
}

/// Waits for its pod to run.
async fn pod(api: &ApiClient, mover: &Mover) -> Result<String, MoverError> {
    let begun = Instant::now();
    let selector = format!("batch.kubernetes.io/job-name={}", mover.name);
    let fail = |reason: String| MoverError::DoesNotStart {
        name: called(mover),
        reason,
    };
    loop {
        let pods = list(api, "", "pods", "Pod", Some(&mover.namespace), &selector).await?;
        let found = pods.first();
        if let Some(pod) = found {
            match pod["status"]["phase"].as_str() {
                Some("Running") if pod["status"]["containerStatuses"][0]["state"]["running"].is_object() => {
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                    return Ok(name.to_owned());
                }
                Some("Failed" | "Succeeded") => return Err(fail(ended(pod))),
                _ => {}
            }
        }
        let hindrance = match found {
            Some(pod) => hindrance(pod).map(with_advice),
            None => refusal(api, mover).await?,
        };
        let patience = if hindrance.is_some() {
            HINDERED
        } else {
            STARTS_WITHIN
        };
        if begun.elapsed() > patience {
            return Err(fail(hindrance.unwrap_or_else(|| {
                format!("its pod does not run after {} s", STARTS_WITHIN.as_secs())
            })));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn ended(pod: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let over = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    let reason = [text(&pod["status"]["reason"]), text(&over["reason"])];
    let message = [text(&pod["status"]["message"]), text(&over["message"])];
    format!(
        "its pod has ended: {}",
        [reason.concat(), message.concat()].join(" ").trim()
    )
}

/// What can be done about an image that is not found.
fn with_advice(hindrance: String) -> String {
    if hindrance.contains("Image") {
        format!("{hindrance}; the nodes have to find the image (--image)")
    } else {
        hindrance
    }
}

/// Why the Job has made no pod: Pod Security, a quota, another webhook.
async fn refusal(api: &ApiClient, mover: &Mover) -> Result<Option<String>, ApiError> {
    let events = kind("", "events", "Event", true);
    let found = match api.objects(events, Some(&mover.namespace), "").await {
        Ok(found) => found,
        Err(error) if error.is_forbidden() => return Ok(None),
        Err(error) => return Err(error),
    };
    let of_job = found.iter().filter(|event| {
        event["involvedObject"]["name"] == mover.name.as_str() && event["reason"] == "FailedCreate"
    });
    Ok(of_job
        .filter_map(|event| event["message"].as_str())
        .next_back()
        .map(str::to_owned))
}

/// Talks to the mover until it reports.
async fn converse(
    api: &ApiClient,
    mover: &Mover,
    pod: &str,
    request: Request,
    files: Arc<dyn Files>,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Done, MoverError> {
    let broken = |reason: String| MoverError::Broken {
        name: called(mover),
        reason,
    };
    let pods: Api<Pod> = Api::namespaced(api.kube(), &mover.namespace);
    let parameters = AttachParams::default()
        .container("mover")
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(PIPE)
        .max_stdout_buf_size(PIPE);
    let words = ["/usr/local/bin/kubectl-backup", "mover", "run"];
    let mut process = pods
        .exec(pod, words, &parameters)
        .await
        .map_err(|error| broken(error.to_string()))?;
    let (Some(mut to), Some(from), Some(mut said)) = (process.stdin(), process.stdout(), process.stderr())
    else {
        return Err(broken("it has no streams".to_owned()));
    };
    let errors = tokio::spawn(async move {
        let mut text = String::new();
        // What it could say until then is what counts.
        let _ = tokio::io::AsyncReadExt::read_to_string(&mut said, &mut text).await;
        text
    });
    // Read apart: a frame that is half read must not be let go of because an answer is ready.
    let (arrived, mut frames) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        let mut from = BufReader::with_capacity(PIPE, from);
        loop {
            let frame = wire::read::<Up>(&mut from).await;
            let is_last = !matches!(frame, Ok(Some(_)));
            if arrived.send(frame).await.is_err() || is_last {
                return;
            }
        }
    });
    let talk = async {
        wire::write(&mut to, &Down::Request(request), &[]).await?;
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                frame = frames.recv() => match frame.transpose()?.flatten() {
                    None => return Ok(None),
                    Some((Up::Report(Report::Progress { done, total }), _)) => progress(done, total),
                    Some((Up::Report(report), _)) => return Ok(Some(report)),
                    Some((Up::Call { id, call }, body)) => {
                        let files = Arc::clone(&files);
                        calls.push(async move {
                            let (answer, body) = remote::answer(&*files, call, body).await;
                            (id, answer, body)
                        });
                    }
                },
                Some((id, answer, body)) = calls.next() => {
                    let body: Bytes = body;
                    wire::write(&mut to, &Down::Answer { id, answer }, &body).await?;
                }
            }
        }
    };
    let talked: std::io::Result<Option<Report>> = talk.await;
    reader.abort();
    let report = match talked {
        Ok(Some(report)) => report,
        ended => {
            process.abort();
            let said = errors.await.unwrap_or_default();
            let reason = match (ended.err(), said.trim()) {
                (_, said) if !said.is_empty() => said.to_owned(),
                (Some(error), _) => error.to_string(),
                (None, _) => "it ended without a word".to_owned(),
            };
            return Err(broken(reason));
        }
    };
    drop(to);
    match report {
        Report::Stored(stored) => Ok(Done::Stored(stored)),
        Report::Written(written) => Ok(Done::Written(written)),
        Report::Failed {
            reason,
            is_unreachable,
        } => Err(MoverError::Failed {
            reason,
            is_unreachable,
        }),
        Report::Progress { .. } => Err(broken("progress is no report".to_owned())),
    }
}
