//! Movers for many claims, all of one kind: the same image, password and way to the location.
//!
//! In comes what is to be done with a claim; out goes what came of it. Where the cluster holds the location, a mover goes there
//! by itself first; where it cannot reach it, another one does the same over the connection.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use velero_model::mover::{Request, Work};

use super::{Done, MoverError, objects::Mover, run};
use crate::{api::ApiClient, location::redacted::Redacted, repository::BucketFiles, storage::Bucket};

/// What all movers of a backup or restore share.
#[derive(Debug, Clone)]
pub struct Crew {
    /// Password of the repositories.
    pub password: Redacted,
    /// Image of this program.
    pub image: String,
    /// Secret to pull it with.
    pub image_pull_secret: Option<String>,
    /// Location that movers may use themselves, with credentials: what the cluster holds already.
    pub direct: Option<(String, Option<Redacted>)>,
    /// Movers at the same time.
    pub in_flight: usize,
    /// Longest time of one.
    pub deadline: Duration,
}

/// One claim, and what is to be done with it.
#[derive(Debug, Clone)]
pub(crate) struct Task<'a> {
    /// Namespace of the claim.
    pub(crate) namespace: &'a str,
    /// The claim.
    pub(crate) claim: &'a str,
    /// Node of the pod that uses it; none where the scheduler may choose.
    pub(crate) node: Option<String>,
    /// Namespace whose repository it is.
    pub(crate) repository: &'a str,
    /// What is to be done.
    pub(crate) work: Work,
    /// Backup or restore that it belongs to.
    pub(crate) belongs_to: &'a str,
    /// Under which user it runs where root is forbidden.
    pub(crate) as_application: Value,
}

/// Who hears of it.
#[derive(Clone, Copy)]
pub(crate) struct Listener<'a> {
    /// Bytes done and in all.
    pub(crate) progress: &'a (dyn Fn(u64, u64) + Send + Sync),
    /// Something that a person may want to know.
    pub(crate) note: &'a (dyn Fn(String) + Send + Sync),
}

impl Crew {
    /// Does a task.
    ///
    /// # Errors
    /// As [`run`].
    pub(crate) async fn send(
        &self,
        api: &ApiClient,
        bucket: &Arc<dyn Bucket>,
        task: &Task<'_>,
        listener: Listener<'_>,
        cancel: &CancellationToken,
    ) -> Result<Done, MoverError> {
        let is_restricted = is_restricted(api, task.namespace).await;
        let mut direct = self.direct.clone();
        loop {
            let id = uuid::Uuid::new_v4().simple().to_string();
            let mover = Mover {
                name: format!("kubectl-backup-mover-{}", id.get(..10).unwrap_or_default()),
                namespace: task.namespace.to_owned(),
                claim: task.claim.to_owned(),
                node: task.node.clone(),
                writes: matches!(task.work, Work::Restore { .. }),
                image: self.image.clone(),
                image_pull_secret: self.image_pull_secret.clone(),
                deadline: self.deadline,
                belongs_to: task.belongs_to.to_owned(),
                as_application: is_restricted.then(|| task.as_application.clone()),
            };
            let request = Request {
                work: task.work.clone(),
                repository: task.repository.to_owned(),
                password: self.password.reveal().to_owned(),
                location: direct.as_ref().map(|(url, _)| url.clone()),
                credentials: direct
                    .as_ref()
                    .and_then(|(_, text)| text.as_ref().map(|text| text.reveal().to_owned())),
            };
            let files = BucketFiles::of_namespace(Arc::clone(bucket), task.repository);
            match run(api, &mover, request, Arc::new(files), listener.progress, cancel).await {
                Err(MoverError::Failed {
                    is_unreachable: true,
                    reason,
                }) if direct.is_some() => {
                    (listener.note)(format!(
                        "pods in {} do not reach the location ({reason}); their files go through this program",
                        task.namespace
                    ));
                    direct = None;
                }
                done => return done,
            }
        }
    }
}

/// Whether Pod Security forbids root in a namespace; where that is not known it is tried.
pub(crate) async fn is_restricted(api: &ApiClient, namespace: &str) -> bool {
    let found = api.get(&format!("/api/v1/namespaces/{namespace}")).await;
    let namespace: Value = match found {
        Ok(Some(body)) => serde_json::from_slice(&body).unwrap_or_default(),
        _ => Value::Null,
    };
    namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
}
