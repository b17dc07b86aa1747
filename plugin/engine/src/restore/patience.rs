//! How long a write waits for something that passes by itself, and what passes by itself.
//!
//! In comes the server's answer to a write, out goes whether to wait a little and ask again. Each write has one patience a
//! cause: an object that is being deleted may take long, a controller that has not got round to something may not.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use velero_model::resource::ApiKind;

use crate::api::ApiError;

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// An object of the same name is being deleted.
    Terminating,
    /// A controller of the cluster has something to do first.
    NotYet,
    /// The API server is not there.
    Outage,
    /// It is not known whether the write was done.
    Unknown,
}

impl Cause {
    fn longest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Terminating | Self::Outage => 60,
            Self::NotYet => 20,
            Self::Unknown => 90,
        })
    }
}

/// Whether a wait came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// Ask again.
    Again,
    /// It has been long enough.
    Enough,
    /// The run is being stopped.
    Stopped,
}

/// The waits of one write.
#[derive(Debug, Default)]
pub(super) struct Patience {
    began: Vec<(Cause, Instant)>,
    waits: u32,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Patience {
    /// Waits a little, longer each time, unless all the time for this cause has been waited.
    pub(super) async fn wait(&mut self, cause: Cause, stop: &CancellationToken) -> Waited {
        let now = Instant::now();
        let began = match self.began.iter().find(|(known, _)| *known == cause) {
            Some((_, began)) => *began,
            None => {
                self.began.push((cause, now));
                now
            }
        };
        if now.duration_since(began) >= cause.longest() {
            return Waited::Enough;
        }
        let pause = (FIRST_PAUSE * 2u32.pow(self.waits.min(6))).min(LONGEST_PAUSE);
        self.waits += 1;
        tokio::select! {
            () = tokio::time::sleep(pause) => Waited::Again,
            () = stop.cancelled() => Waited::Stopped,
        }
    }
}

/// What the server's refusal of a create stands for, if it passes by itself.
pub(super) fn passing(error: &ApiError) -> Option<Cause> {
    match error {
        ApiError::Ambiguous { .. } => Some(Cause::Unknown),
        ApiError::Unreachable { .. } | ApiError::Timeout { .. } | ApiError::Cut { .. } => Some(Cause::Outage),
        // Admission gave up after a race between writers; nothing was stored.
        _ if error.is_conflict() => Some(Cause::NotYet),
        ApiError::Status { code, message, .. } => {
            let not_yet = match code {
                // The namespace is new, or the quota is: their controllers come in a moment.
                403 => ["error looking up service account", "status unknown for quota"]
                    .iter()
                    .any(|part| message.contains(part)),
                // One of several API servers does not know a new definition yet.
                404 => message.contains("the server could not find the requested resource"),
                _ => false,
            };
            not_yet.then_some(Cause::NotYet)
        }
        _ => None,
    }
}

/// A Service with a fixed node port is refused as invalid, not as existing, when the very same Service is there.
pub(super) fn may_exist(kind: &ApiKind, error: &ApiError) -> bool {
    error.is_already_exists()
        || (kind.group.is_empty()
            && kind.plural == "services"
            && error.is_invalid()
            && error.server_message().contains("already allocated"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> ApiError {
        ApiError::Status {
            what: "POST /api/v1/pods".into(),
            code,
            reason: reason.into(),
            message: message.into(),
            continue_token: None,
        }
    }

    #[test]
    fn refusals_that_pass_are_told_from_those_that_stay() {
        for (error, expected) in [
            (
                status(
                    403,
                    "Forbidden",
                    "pods \"x\" is forbidden: error looking up service account a/b: not found",
                ),
                Some(Cause::NotYet),
            ),
            (
                status(403, "Forbidden", "status unknown for quota: q, resources: pods"),
                Some(Cause::NotYet),
            ),
            (status(403, "Forbidden", "exceeded quota: q"), None),
            (status(403, "Forbidden", "User cannot create"), None),
            (
                status(409, "Conflict", "the object has been modified"),
                Some(Cause::NotYet),
            ),
            (status(409, "AlreadyExists", "already exists"), None),
            (
                status(
                    404,
                    "NotFound",
                    "the server could not find the requested resource",
                ),
                Some(Cause::NotYet),
            ),
            (status(404, "NotFound", "namespaces \"x\" not found"), None),
            (status(422, "Invalid", "spec: Required"), None),
            (status(500, "InternalError", "failed calling webhook"), None),
        ] {
            assert_eq!(passing(&error), expected, "{error}");
        }
    }

    #[test]
    fn a_taken_node_port_may_be_the_same_service() {
        let kind = |plural: &str| ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: plural.into(),
            kind: "X".into(),
            namespaced: true,
        };
        let taken = status(
            422,
            "Invalid",
            "spec.ports[0].nodePort: provided port is already allocated",
        );
        assert!(may_exist(&kind("services"), &taken));
        assert!(!may_exist(&kind("pods"), &taken));
        assert!(may_exist(&kind("pods"), &status(409, "AlreadyExists", "")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_and_stops() {
        let (mut patience, stop) = (Patience::default(), CancellationToken::new());
        let mut rounds = 0;
        while patience.wait(Cause::NotYet, &stop).await == Waited::Again {
            rounds += 1;
        }
        assert!((10..30).contains(&rounds), "{rounds}");
        stop.cancel();
        assert_eq!(patience.wait(Cause::Outage, &stop).await, Waited::Stopped);
    }
}
