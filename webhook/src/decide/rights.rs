//! Who has which right, asked of the API server by SubjectAccessReview and remembered for a few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backup_plan::disposition::{Permission, Right};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use velero_model::api::{DISPOSITIONS, GROUP};

use crate::review::UserInfo;

/// A right that is taken away holds this long at most.
const REMEMBERED: Duration = Duration::from_secs(5);
/// So many answers are remembered; then all are forgotten.
const MOST: usize = 1000;
/// How long the API server may take.
const DEADLINE: Duration = Duration::from_millis(1200);

#[derive(Debug, PartialEq, Eq, Hash, Clone)]
struct Question {
    user: String,
    groups: Vec<String>,
    extra: Vec<(String, Vec<String>)>,
    verb: &'static str,
    namespace: String,
    name: String,
}

/// Remembered answers.
#[derive(Debug, Default)]
pub(super) struct Rights {
    answers: Mutex<HashMap<Question, (Instant, bool)>>,
}

impl Rights {
    /// Whether the user has the right.
    pub(super) async fn may(
        &self,
        client: &Client,
        user: &UserInfo,
        right: Right,
        namespace: &str,
        name: &str,
    ) -> Permission {
        let question = Question {
            user: user.username.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone().into_iter().collect(),
            verb: right.verb(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        if let Some(allowed) = self.remembered(&question) {
            return granted(allowed);
        }
        match tokio::time::timeout(DEADLINE, ask(client, user, &question)).await {
            Ok(Ok(allowed)) => {
                self.remember(question, allowed);
                granted(allowed)
            }
            Ok(Err(error)) => Permission::Unknown(format!("the API server says: {error}")),
            Err(_) => Permission::Unknown("the API server does not answer".to_owned()),
        }
    }

    fn remembered(&self, question: &Question) -> Option<bool> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, allowed) = answers.get(question)?;
        (since.elapsed() < REMEMBERED).then_some(*allowed)
    }

    fn remember(&self, question: Question, allowed: bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST {
            answers.clear();
        }
        // A right that was just given is not to be waited for.
        if allowed {
            answers.insert(question, (Instant::now(), allowed));
        }
    }
}

fn granted(allowed: bool) -> Permission {
    if allowed { Permission::Yes } else { Permission::No }
}

async fn ask(client: &Client, user: &UserInfo, question: &Question) -> kube::Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.username.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                resource: Some(DISPOSITIONS.to_owned()),
                verb: Some(question.verb.to_owned()),
                namespace: Some(question.namespace.clone()),
                name: Some(question.name.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answered = api.create(&PostParams::default(), &review).await?;
    Ok(answered.status.is_some_and(|status| status.allowed))
}
