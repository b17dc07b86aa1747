//! What can go wrong between us and an API server.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// Why a request has no usable answer. `what` is the request in words: `GET /api/v1/pods`.
#[derive(Debug, Error)]
pub enum ApiError {
    /// No usable kubeconfig.
    #[error("{problem}; {next}")]
    Config {
        /// What is wrong with it.
        problem: String,
        /// What to do.
        next: &'static str,
    },
    /// No connection.
    #[error(
        "{what}: the API server {server} cannot be reached; check the context, the network and `kubectl version`"
    )]
    Unreachable {
        /// The request.
        what: String,
        /// URL of the server.
        server: String,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server answered with an error.
    #[error("{what}: {message} ({code}{})", reason_suffix(.reason))]
    Status {
        /// The request.
        what: String,
        /// HTTP status.
        code: u16,
        /// Kubernetes' reason word, may be empty.
        reason: String,
        /// Kubernetes' message.
        message: String,
        /// A fresh continue token that a 410 carries.
        continue_token: Option<String>,
    },
    /// Nothing came for too long.
    #[error("{what}: no answer from {server} within {} s; raise --request-timeout or look at the server's load", .after.as_secs())]
    Timeout {
        /// The request.
        what: String,
        /// URL of the server.
        server: String,
        /// How long was waited.
        after: Duration,
    },
    /// The body ended early, again and again.
    #[error("{what}: the answer of {server} was cut")]
    Cut {
        /// The request.
        what: String,
        /// URL of the server.
        server: String,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A write was sent and its answer lost: it may or may not have been done.
    #[error(
        "{what}: the connection to {server} broke before the answer; it is not known whether it was done"
    )]
    Ambiguous {
        /// The request.
        what: String,
        /// URL of the server.
        server: String,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A body beyond the limit.
    #[error("{what}: the answer has more than {limit} bytes")]
    TooLarge {
        /// The request.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// The body is not what it should be. The body itself is never shown: it may hold secrets.
    #[error("{what}: the answer is no {expected}")]
    Parse {
        /// The request.
        what: String,
        /// What was expected.
        expected: &'static str,
    },
}

fn reason_suffix(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(" {reason}")
    }
}

/// The fields of a Kubernetes Status that we use.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) metadata: StatusMetadata,
    pub(super) details: Option<StatusDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusMetadata {
    #[serde(rename = "continue")]
    pub(super) continue_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct StatusDetails {
    pub(super) retry_after_seconds: u64,
}

impl ApiError {
    /// Builds the error for a non-success answer.
    pub(super) fn from_answer(what: &str, code: u16, body: &[u8]) -> Self {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        let message = if status.message.is_empty() {
            default_message(code).to_owned()
        } else {
            status.message
        };
        let continue_token = Some(status.metadata.continue_token).filter(|token| !token.is_empty());
        Self::Status {
            what: what.to_owned(),
            code,
            reason: status.reason,
            message,
            continue_token,
        }
    }

    /// HTTP status, if the server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Status { reason, .. } => reason,
            _ => "",
        }
    }

    /// The object or the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// An object of this name exists.
    pub fn is_already_exists(&self) -> bool {
        self.code() == Some(409) && self.reason() == "AlreadyExists"
    }

    /// Somebody else changed it, or owns a field.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409) && self.reason() != "AlreadyExists"
    }

    /// No permission, or nobody knows who we are.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.code(), Some(401 | 403))
    }

    /// The server's validation refused the object.
    pub fn is_invalid(&self) -> bool {
        self.code() == Some(422)
    }

    /// The continue token expired.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// What the server said, without the request.
    pub fn server_message(&self) -> String {
        match self {
            Self::Status { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

fn default_message(code: u16) -> &'static str {
    match code {
        401 => "the server does not know who we are; log in again or check the credentials of the context",
        403 => "no permission",
        404 => "not found",
        429 => "the server is busy",
        502..=504 => "the server, or something in front of it, is not available",
        _ => "the server refused the request",
    }
}

/// An error with its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
