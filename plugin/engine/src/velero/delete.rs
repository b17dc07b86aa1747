//! Deleting a backup through Velero: a DeleteBackupRequest, and its end.
//!
//! A Backup object that is simply deleted comes back with the next sync, and its volume data stays for ever; only a
//! request makes Velero delete snapshots, repositories, restores, the files in the bucket and then the object. Out goes
//! success when the object is gone, or Velero's own errors.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use velero_model::{
    api_object::{DeleteBackupRequest, Run},
    name::BackupName,
};

use super::{
    Kind, Velero, VeleroError,
    check::{at_rest, is_passing},
    request_name,
};
use crate::progress::Progress;

/// Between two looks.
const POLL: Duration = Duration::from_millis(500);

/// Looks at a gone request beside a Backup that stays, before somebody else is taken to have removed the request.
const LOOKS: u32 = 20;

impl Velero {
    /// Asks for the deletion of a backup that Velero is not at work on. Gives the name of the request.
    ///
    /// # Errors
    /// [`VeleroError::UnderWay`], [`VeleroError::Vanished`] when there is no such Backup any more.
    pub async fn request_deletion(&self, name: &BackupName) -> Result<String, VeleroError> {
        let Some(backup): Option<Run> = self.run(Kind::Backup, name.as_str()).await? else {
            return Err(VeleroError::Vanished {
                what: self.what(Kind::Backup, name.as_str()),
            });
        };
        at_rest(self, Kind::Backup, &backup)?;
        let uid = backup.metadata.uid.unwrap_or_default();
        let request = request_name(name.as_str());
        let object = DeleteBackupRequest::new(&request, &self.namespace, name.as_str(), &uid);
        self.create(Kind::DeleteBackupRequest, &request, &object).await?;
        Ok(request)
    }

    /// Waits until the backup is gone.
    ///
    /// # Errors
    /// [`VeleroError::DeleteFailed`] with Velero's errors, [`VeleroError::Interrupted`].
    pub async fn wait_for_deletion(
        &self,
        name: &BackupName,
        request: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), VeleroError> {
        progress.set_step("Velero deletes the backup and what belongs to it");
        let mut without_request = 0;
        loop {
            match self.deletion(name, request).await {
                Ok(Deletion::Done) => return Ok(()),
                Ok(Deletion::Failed(errors)) => {
                    return Err(VeleroError::DeleteFailed {
                        name: name.to_string(),
                        errors,
                    });
                }
                Ok(Deletion::UnderWay) => without_request = 0,
                Ok(Deletion::NoRequest) => {
                    without_request += 1;
                    if without_request > LOOKS {
                        return Err(VeleroError::Vanished {
                            what: self.what(Kind::DeleteBackupRequest, request),
                        });
                    }
                }
                Err(VeleroError::Api(error)) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = cancel.cancelled() => return Err(VeleroError::Interrupted),
            }
        }
    }

    async fn deletion(&self, name: &BackupName, request: &str) -> Result<Deletion, VeleroError> {
        // In this order: Velero removes the Backup first and then the request.
        let request: Option<DeleteBackupRequest> = self.get(Kind::DeleteBackupRequest, request).await?;
        let backup: Option<Run> = self.run(Kind::Backup, name.as_str()).await?;
        Ok(judge(request, backup.is_some()))
    }
}

/// How far a deletion is.
#[derive(Debug, PartialEq, Eq)]
enum Deletion {
    Done,
    UnderWay,
    Failed(Vec<String>),
    NoRequest,
}

fn judge(request: Option<DeleteBackupRequest>, backup_is_there: bool) -> Deletion {
    let Some(request) = request else {
        return if backup_is_there {
            Deletion::NoRequest
        } else {
            Deletion::Done
        };
    };
    let errors = request.status.errors.unwrap_or_default();
    match (request.status.phase.as_str(), errors.is_empty(), backup_is_there) {
        ("Processed", false, _) => Deletion::Failed(errors),
        (_, true, false) => Deletion::Done,
        _ => Deletion::UnderWay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(phase: &str, errors: &[&str]) -> DeleteBackupRequest {
        let mut request = DeleteBackupRequest::new("d", "velero", "b", "u");
        request.status.phase = phase.into();
        request.status.errors = Some(errors.iter().map(|error| (*error).to_owned()).collect());
        request
    }

    #[test]
    fn a_deletion_is_over_when_the_backup_is_gone_or_errors_are_told() {
        let failed = || Deletion::Failed(vec!["no".into()]);
        let table = [
            (Some(request("", &[])), true, Deletion::UnderWay),
            (Some(request("InProgress", &[])), true, Deletion::UnderWay),
            (Some(request("Processed", &[])), true, Deletion::UnderWay),
            (Some(request("Processed", &["no"])), true, failed()),
            (Some(request("Processed", &["no"])), false, failed()),
            (Some(request("Processed", &[])), false, Deletion::Done),
            (Some(request("InProgress", &[])), false, Deletion::Done),
            (None, false, Deletion::Done),
            (None, true, Deletion::NoRequest),
        ];
        for (request, backup_is_there, expected) in table {
            let said = format!("{request:?} {backup_is_there}");
            assert_eq!(judge(request, backup_is_there), expected, "{said}");
        }
    }
}
