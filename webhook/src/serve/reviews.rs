//! From the body of a request to the body of its answer.
//!
//! Whatever happens, the API server gets a well-formed review: a decision that panics or comes too late is answered
//! like one that fails, which the annotator allows and the others refuse. Only a body in which no question can be
//! found gets a plain HTTP error, since there is no UID to answer with.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use futures::FutureExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prometheus_client::encoding::EncodeLabelValue;

use super::metrics::{Metrics, Outcome};
use crate::decide::{self, Context};
use crate::review::{Answer, Denial, Request, ReviewError, Verdict};

/// The largest body: an object of 3 MiB, the most that etcd takes with room to spare, twice, and its envelope.
pub const MAX_BODY: usize = 8 << 20;

/// The three questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "they are label values")]
pub enum Webhook {
    /// Which volumes of a pod are opted in.
    annotate,
    /// Whether a cluster may be deleted.
    gate,
    /// Whether somebody may decide.
    guard,
}

/// Who decides. The server's own decisions are [`Context`]; tests bring others.
pub trait Decisions: Send + Sync + 'static {
    /// For [`Webhook::annotate`].
    fn annotate(&self, request: &Request) -> impl Future<Output = Answer> + Send;
    /// For [`Webhook::gate`].
    fn hold(&self, request: &Request) -> impl Future<Output = Answer> + Send;
    /// For [`Webhook::guard`].
    fn guard(&self, request: &Request) -> impl Future<Output = Answer> + Send;
}

impl Decisions for Context {
    async fn annotate(&self, request: &Request) -> Answer {
        decide::annotate(request, &self.snapshot)
    }

    async fn hold(&self, request: &Request) -> Answer {
        decide::hold(request, self).await
    }

    async fn guard(&self, request: &Request) -> Answer {
        decide::guard(request, self).await
    }
}

/// Answers reviews.
#[derive(Debug)]
pub struct Reviews<D> {
    /// Who decides.
    pub decisions: D,
    /// Where it is counted.
    pub metrics: std::sync::Arc<Metrics>,
}

/// A request without a question in it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Over [`MAX_BODY`].
    #[error("the body is larger than 8 MiB")]
    TooLarge,
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    Slow,
    /// It ended early.
    #[error("the body ended early")]
    Cut,
    /// It is no review.
    #[error(transparent)]
    NoReview(#[from] ReviewError),
}

impl Webhook {
    /// Where the API server asks.
    pub fn path(self) -> &'static str {
        match self {
            Self::annotate => "/annotate",
            Self::gate => "/gate",
            Self::guard => "/guard",
        }
    }

    /// The time for an answer, under the `timeoutSeconds` of our manifests (2 and 5).
    pub fn deadline(self) -> Duration {
        match self {
            Self::annotate => Duration::from_millis(1500),
            Self::gate | Self::guard => Duration::from_secs(4),
        }
    }

    fn is_open(self) -> bool {
        self == Self::annotate
    }

    /// The answer where there is no decision.
    fn undecided(self, why: &str, code: u16, reason: &str) -> Answer {
        if self.is_open() {
            let warning =
                format!("kubectl-backup: {why}; volumes were not looked at, the pod is as it was written");
            return Answer::allow().warned(warning).audited("undecided", why);
        }
        Answer {
            verdict: Verdict::Denied(Denial {
                code,
                reason: reason.to_owned(),
                message: format!("kubectl-backup: {why}; nothing was changed, try again"),
            }),
            ..Answer::allow()
        }
        .audited("undecided", why)
    }
}

impl<D: Decisions> Reviews<D> {
    /// The answer to `body`, before `deadline`.
    pub async fn answer(
        &self,
        webhook: Webhook,
        body: Body,
        began: Instant,
        deadline: Instant,
    ) -> Result<Vec<u8>, Refusal> {
        let request = match read(body, deadline).await {
            Ok(request) => request,
            Err(refusal) => {
                let outcome = match refusal {
                    Refusal::Slow => Outcome::late,
                    _ => Outcome::malformed,
                };
                self.metrics.answered(webhook, outcome, began.elapsed());
                tracing::warn!(?webhook, %refusal, "no review");
                return Err(refusal);
            }
        };
        let (answer, outcome) = self.decide(webhook, &request, deadline).await;
        let took = began.elapsed();
        self.metrics.answered(webhook, outcome, took);
        log(webhook, &request, outcome, took);
        Ok(answer.render(&request.uid))
    }

    async fn decide(&self, webhook: Webhook, request: &Request, deadline: Instant) -> (Answer, Outcome) {
        let decided = async {
            match webhook {
                Webhook::annotate => self.decisions.annotate(request).await,
                Webhook::gate => self.decisions.hold(request).await,
                Webhook::guard => self.decisions.guard(request).await,
            }
        };
        // A decision only reads what it shares with others; nothing half done can be left behind.
        let caught = AssertUnwindSafe(decided).catch_unwind();
        match tokio::time::timeout_at(deadline.into(), caught).await {
            Ok(Ok(answer)) => {
                let outcome = outcome(&answer);
                (answer, outcome)
            }
            Ok(Err(_)) => (
                webhook.undecided("a fault of the admission server", 500, "InternalError"),
                Outcome::panicked,
            ),
            Err(_) => (
                webhook.undecided("no decision in time", 504, "Timeout"),
                Outcome::late,
            ),
        }
    }
}

fn outcome(answer: &Answer) -> Outcome {
    match (&answer.verdict, &answer.patch) {
        (Verdict::Denied(_), _) => Outcome::denied,
        (Verdict::Allowed, Some(patch)) if !patch.0.is_empty() => Outcome::patched,
        (Verdict::Allowed, _) => Outcome::allowed,
    }
}

async fn read(body: Body, deadline: Instant) -> Result<Request, Refusal> {
    let collected = Limited::new(body, MAX_BODY).collect();
    let bytes: Bytes = match tokio::time::timeout_at(deadline.into(), collected).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::TooLarge),
        Ok(Err(_)) => return Err(Refusal::Cut),
        Err(_) => return Err(Refusal::Slow),
    };
    Ok(Request::parse(&bytes)?)
}

/// Names, never contents.
fn log(webhook: Webhook, request: &Request, outcome: Outcome, took: Duration) {
    let Request {
        uid, name, operation, ..
    } = request;
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let (kind, user) = (&request.kind.kind, &request.user_info.username);
    let milliseconds = took.as_secs_f64() * 1000.0;
    match outcome {
        Outcome::allowed | Outcome::patched => {
            tracing::debug!(
                ?webhook,
                ?outcome,
                uid,
                ?operation,
                kind,
                namespace,
                name,
                user,
                milliseconds,
                "answered"
            );
        }
        Outcome::denied => {
            tracing::info!(
                ?webhook,
                ?outcome,
                uid,
                ?operation,
                kind,
                namespace,
                name,
                user,
                milliseconds,
                "answered"
            );
        }
        Outcome::malformed | Outcome::late | Outcome::panicked => {
            tracing::error!(
                ?webhook,
                ?outcome,
                uid,
                ?operation,
                kind,
                namespace,
                name,
                user,
                milliseconds,
                "answered"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use axum::body::Body;
    use serde_json::{Value, json};

    use super::{Decisions, MAX_BODY, Refusal, Reviews, Webhook};
    use crate::review::{Answer, Request};
    use crate::serve::metrics::Metrics;

    const ALL: [Webhook; 3] = [Webhook::annotate, Webhook::gate, Webhook::guard];

    /// Decides as the object's name says.
    struct Told;

    impl Told {
        async fn decide(request: &Request) -> Answer {
            match request.name.as_str() {
                "panics" => panic!("a fault"),
                "sleeps" => tokio::time::sleep(Duration::from_mins(1)).await,
                _ => {}
            }
            Answer::allow()
        }
    }

    impl Decisions for Told {
        async fn annotate(&self, request: &Request) -> Answer {
            Self::decide(request).await
        }

        async fn hold(&self, request: &Request) -> Answer {
            Self::decide(request).await
        }

        async fn guard(&self, request: &Request) -> Answer {
            Self::decide(request).await
        }
    }

    async fn answer(webhook: Webhook, body: Vec<u8>) -> Result<Value, Refusal> {
        let reviews = Reviews {
            decisions: Told,
            metrics: Arc::new(Metrics::new()),
        };
        let began = Instant::now();
        let deadline = began + Duration::from_millis(100);
        let bytes = reviews.answer(webhook, Body::from(body), began, deadline).await?;
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    fn named(name: &str) -> Vec<u8> {
        let request = json!({ "uid": "the-uid", "operation": "CREATE", "name": name });
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
            .to_string()
            .into_bytes()
    }

    #[tokio::test]
    async fn a_panic_is_answered_well_formed() {
        for webhook in ALL {
            let review = answer(webhook, named("panics")).await.unwrap();
            let response = &review["response"];
            assert_eq!(response["uid"], "the-uid");
            assert_eq!(
                response["auditAnnotations"]["undecided"],
                "a fault of the admission server"
            );
            assert_eq!(response["allowed"], webhook == Webhook::annotate);
            if webhook == Webhook::annotate {
                assert_eq!(response["warnings"].as_array().unwrap().len(), 1);
            } else {
                assert_eq!(response["status"]["code"], 500);
            }
        }
    }

    #[tokio::test]
    async fn a_late_decision_is_answered_in_time() {
        for webhook in ALL {
            let review = answer(webhook, named("sleeps")).await.unwrap();
            let response = &review["response"];
            assert_eq!(response["uid"], "the-uid");
            assert_eq!(response["allowed"], webhook == Webhook::annotate);
            if webhook != Webhook::annotate {
                assert_eq!(response["status"]["reason"], "Timeout");
            }
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let error = answer(Webhook::gate, vec![b' '; MAX_BODY + 1]).await.unwrap_err();
        assert!(matches!(error, Refusal::TooLarge), "{error}");
        let error = answer(Webhook::gate, vec![b' '; MAX_BODY]).await.unwrap_err();
        assert!(matches!(error, Refusal::NoReview(_)), "{error}");
    }
}
