//! A command in a container of a pod, to its end.
//!
//! In come pod, container, words and a time; out goes nothing, or why it failed: its exit code with what it said last, that
//! it did not end in time, or that it could not be started. What it prints is read and let go of. A command that does not end
//! is left behind, as Velero leaves it: there is no way to end it from outside.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::api::ApiClient;

/// Bytes of what a command says on standard error that are kept, the last ones.
const KEPT: usize = 2048;

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExecError {
    /// It could not be started, or the connection broke.
    #[error("it could not be run: {0}")]
    NotRun(String),
    /// It ended with another code than 0.
    #[error("it ended with {code}{}", in_brackets(.said))]
    Ended {
        /// As the server says it: `exit code 3`.
        code: String,
        /// Last line that it wrote to standard error.
        said: String,
    },
    /// It did not end.
    #[error("it did not end within {seconds} s")]
    Late {
        /// How long was waited.
        seconds: u64,
    },
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" ({text})")
    }
}

/// Runs it.
///
/// # Errors
/// [`ExecError`].
pub(crate) async fn run(
    api: &ApiClient,
    namespace: &str,
    pod: &str,
    container: &str,
    words: &[String],
    timeout: Duration,
) -> Result<(), ExecError> {
    let late = |_| ExecError::Late {
        seconds: timeout.as_secs(),
    };
    tokio::time::timeout(timeout, attached(api, namespace, pod, container, words))
        .await
        .map_err(late)?
}

async fn attached(
    api: &ApiClient,
    namespace: &str,
    pod: &str,
    container: &str,
    words: &[String],
) -> Result<(), ExecError> {
    let not_run = |reason: String| ExecError::NotRun(reason);
    let pods: Api<Pod> = Api::namespaced(api.kube(), namespace);
    let parameters = AttachParams::default()
        .container(container)
        .stdin(false)
        .stdout(true)
        .stderr(true);
    let mut process = pods
        .exec(pod, words, &parameters)
        .await
        .map_err(|error| not_run(error.to_string()))?;
    let status = process.take_status();
    let (out, errors) = (process.stdout(), process.stderr());
    let (_, last) = tokio::join!(drain(out), drain(errors));
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let Some(status) = status else {
        return Err(not_run("the connection ended before the command did".to_owned()));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    let code = status
        .details
        .iter()
        .flat_map(|details| details.causes.iter().flatten())
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.clone());
    Err(match code {
        Some(code) => ExecError::Ended {
            code: format!("exit code {code}"),
            said: last.lines().next_back().unwrap_or_default().trim().to_owned(),
        },
        None => not_run(
            status
                .message
                .unwrap_or_else(|| "the server does not say why".to_owned()),
        ),
    })
}

/// Reads to the end, and keeps the last of it.
async fn drain(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else {
        return String::new();
    };
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 4096]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
