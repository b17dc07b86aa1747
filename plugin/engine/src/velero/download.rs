//! One file out of Velero's bucket without any right on the bucket: a DownloadRequest, and the signed URL that it yields.
//!
//! The URL is as good as the file, so it is never printed or logged ([`super::signed_url`]). Velero signs for the host name
//! by which it knows the store; from outside the cluster that name may mean nothing, which the error says.

use std::time::Duration;

use http::{StatusCode, Uri};
use http_body_util::BodyExt;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use velero_model::api_object::{BackupStorageLocation, DownloadRequest, DownloadTarget, DownloadTargetKind};

use super::{
    Kind, Velero, VeleroError, request_name,
    signed_url::{ANSWER_WITHIN, Answer, get},
};
use crate::{
    api::ApiError,
    location::backup_storage_location::base64,
    storage::{Bucket, Put},
};

/// How long Velero may take to sign.
const SIGNED_WITHIN: Duration = Duration::from_mins(1);

/// Between two looks for the URL.
const POLL: Duration = Duration::from_millis(200);

/// One file to fetch.
pub(super) struct Download<'a> {
    pub(super) velero: &'a Velero,
    pub(super) location: &'a BackupStorageLocation,
    pub(super) cancel: &'a CancellationToken,
}

impl Download<'_> {
    /// Puts the file into `bucket` under `key`; `false` when Velero's bucket has no such file.
    pub(super) async fn store(
        &self,
        bucket: &dyn Bucket,
        key: &str,
        kind: DownloadTargetKind,
        name: &str,
    ) -> Result<bool, VeleroError> {
        let work = self.fetch(bucket, key, kind, name);
        tokio::select! {
            done = work => done,
            () = self.cancel.cancelled() => Err(VeleroError::Interrupted),
        }
    }

    async fn fetch(
        &self,
        bucket: &dyn Bucket,
        key: &str,
        kind: DownloadTargetKind,
        name: &str,
    ) -> Result<bool, VeleroError> {
        let what = format!("{kind:?} of {name}");
        let url = self.signed_url(&what, kind, name).await?;
        let answer = match self.get(&url).await {
            Ok(answer) => answer,
            Err(problem) => return Err(self.unreachable(what, &url, &problem)),
        };
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(false),
            status => {
                return Err(VeleroError::Download {
                    what,
                    problem: format!("the store answers {status} to the URL that Velero signed"),
                    next: "look at the credentials of Velero and at its clock".to_owned(),
                });
            }
        }
        let mut body = answer.into_body();
        let mut upload = bucket.upload(key, Put::default()).await?;
        loop {
            let cut = |problem: String| VeleroError::Download {
                what: what.clone(),
                problem,
                next: "repeat the command".to_owned(),
            };
            let frame = timeout(ANSWER_WITHIN, body.frame())
                .await
                .map_err(|_| cut(format!("nothing came for {} s", ANSWER_WITHIN.as_secs())))?;
            match frame {
                None => break,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        upload.write(data).await?;
                    }
                }
                Some(Err(error)) => return Err(cut(format!("the transfer was cut ({error})"))),
            }
        }
        let stored = upload.complete().await?;
        Ok(stored.is_stored())
    }

    /// Asks Velero for the URL. The request is removed afterwards; Velero would do that some minutes later.
    async fn signed_url(
        &self,
        what: &str,
        kind: DownloadTargetKind,
        name: &str,
    ) -> Result<String, VeleroError> {
        let velero = self.velero;
        let request = request_name(name);
        let target = DownloadTarget {
            kind,
            name: name.to_owned(),
        };
        let object = DownloadRequest::new(&request, velero.namespace(), target);
        velero.create(Kind::DownloadRequest, &request, &object).await?;
        let url = self.wait_for_url(what, &request).await;
        // Without the right to delete it, it expires by itself.
        let _: Result<(), ApiError> = velero
            .api()
            .delete(&velero.path(Kind::DownloadRequest, &request))
            .await;
        url
    }

    async fn wait_for_url(&self, what: &str, request: &str) -> Result<String, VeleroError> {
        let begun = Instant::now();
        let refuse = |problem: String| VeleroError::Download {
            what: what.to_owned(),
            problem,
            next: format!(
                "look at Velero's log: `kubectl logs deployment/velero -n {}`",
                self.velero.namespace()
            ),
        };
        while begun.elapsed() < SIGNED_WITHIN {
            let found: Option<DownloadRequest> = self.velero.get(Kind::DownloadRequest, request).await?;
            let Some(found) = found else {
                return Err(refuse("the DownloadRequest was deleted".to_owned()));
            };
            match (found.status.phase.as_str(), found.status.download_url) {
                (_, url) if !url.is_empty() => return Ok(url),
                ("Failed", _) => {
                    let message = found.status.message;
                    return Err(refuse(format!("Velero hands out no URL ({message})")));
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
        Err(refuse(format!(
            "Velero handed out no URL within {} s",
            SIGNED_WITHIN.as_secs()
        )))
    }

    /// GET. A CA of the location's is tried before those of the system: either may have signed the store's certificate.
    async fn get(&self, url: &str) -> Result<Answer, String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let mut problem = String::new();
        for roots in [self.own_roots()?, None] {
            if roots.is_none() && !problem.is_empty() && uri.scheme_str() != Some("https") {
                break;
            }
            match get(&uri, roots).await {
                Ok(answer) => return Ok(answer),
                Err(error) if problem.is_empty() => problem = error,
                Err(_) => {}
            }
            if self.location.spec.object_storage.ca_cert.is_none() {
                break;
            }
        }
        Err(problem)
    }

    fn own_roots(&self) -> Result<Option<Vec<Vec<u8>>>, String> {
        let Some(encoded) = &self.location.spec.object_storage.ca_cert else {
            return Ok(None);
        };
        let pem = base64(encoded).ok_or("caCert of the location is not base64")?;
        let roots = CertificateDer::pem_slice_iter(&pem)
            .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("caCert of the location: {error}"))?;
        Ok(Some(roots).filter(|roots| !roots.is_empty()))
    }

    fn unreachable(&self, what: String, url: &str, problem: &str) -> VeleroError {
        let host = url
            .parse::<Uri>()
            .ok()
            .and_then(|uri| uri.authority().map(|authority| authority.host().to_owned()))
            .unwrap_or_default();
        VeleroError::Download {
            what,
            problem: format!(
                "Velero hands out a URL on host {host}, which cannot be reached from here ({problem})"
            ),
            next: format!(
                "set publicUrl in the config of BackupStorageLocation {}/{} to an address that is reachable from here, \
                 or name the bucket with --location and give credentials for it",
                self.velero.namespace(),
                self.location.metadata.name
            ),
        }
    }
}
