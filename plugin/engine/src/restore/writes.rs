//! Everything that a restore writes to the cluster goes through here.
//!
//! In come requests, out they go: as they are in a restore, as dry runs while a plan is made. There is no other way from
//! this module to a write, so that a plan is made by the code that restores and changes nothing.

use std::borrow::Cow;

use backup_plan::restore::existing::FIELD_MANAGER;
use bytes::Bytes;
use serde_json::json;

use super::{
    RestoreError,
    apply::Refusal,
    patience::{Cause, Patience, Waited, passing},
    run::Run,
};
use crate::api::{ApiClient, ApiError, PatchKind};

/// A way to write.
pub(super) struct Writes {
    api: ApiClient,
    is_dry: bool,
}

impl Writes {
    pub(super) fn new(api: &ApiClient, is_dry: bool) -> Self {
        Self {
            api: api.clone(),
            is_dry,
        }
    }

    fn path<'p>(&self, path: &'p str) -> Cow<'p, str> {
        match (self.is_dry, path.contains('?')) {
            (false, _) => path.into(),
            (true, false) => format!("{path}?dryRun=All").into(),
            (true, true) => format!("{path}&dryRun=All").into(),
        }
    }

    /// POST to a collection.
    pub(super) async fn create(&self, collection: &str, body: Bytes) -> Result<Bytes, ApiError> {
        let path = format!("{collection}?fieldManager={FIELD_MANAGER}");
        self.api.create(&self.path(&path), body).await
    }

    /// PUT of an object.
    pub(super) async fn replace(&self, path: &str, body: Bytes) -> Result<Bytes, ApiError> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        self.api.replace(&self.path(&path), body).await
    }

    /// PATCH of an object.
    pub(super) async fn patch(&self, path: &str, kind: &PatchKind, body: Bytes) -> Result<Bytes, ApiError> {
        self.api.patch(&self.path(path), kind, body).await
    }

    /// Server-side apply of an object.
    pub(super) async fn apply(&self, path: &str, body: Bytes, force: bool) -> Result<Bytes, ApiError> {
        let kind = PatchKind::Apply {
            manager: FIELD_MANAGER.to_owned(),
            force,
        };
        self.patch(path, &kind, body).await
    }

    /// DELETE of the object with this UID and no other; what it owns goes in the background.
    pub(super) async fn delete(&self, path: &str, uid: &str) -> Result<(), ApiError> {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid},
            "propagationPolicy": "Background"});
        if self.is_dry {
            // The server reads no query beside a body: a dry run that stands there alone deletes.
            options["dryRun"] = json!(["All"]);
        }
        self.api
            .delete_with(&self.path(path), options.to_string().into())
            .await
    }
}

/// Sends a write that does no harm when it is sent twice, and waits a while for a server that is away. Gives the server's
/// last word.
pub(super) async fn repeatable<T, F>(run: &Run, send: impl Fn() -> F) -> Result<Result<T, ApiError>, Refusal>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut patience = Patience::default();
    loop {
        let error = match send().await {
            Ok(answer) => return Ok(Ok(answer)),
            Err(error) => error,
        };
        let Some(cause) = passing(&error).filter(|cause| matches!(cause, Cause::Outage | Cause::Unknown))
        else {
            return Ok(Err(error));
        };
        match patience.wait(cause, &run.stop).await {
            Waited::Again => {}
            Waited::Stopped => return Err(Refusal::Run(RestoreError::Interrupted)),
            Waited::Enough if cause == Cause::Outage => return Err(Refusal::Run(error.into())),
            Waited::Enough => return Ok(Err(error)),
        }
    }
}
