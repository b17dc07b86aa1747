//! Decisions about a backup, told to a running Velero.
//!
//! Velero knows no holds: it deletes what `status.expiration` of the Backup object says, and nothing that has none. So a
//! hold takes the expiry away and leaves a label, and its end puts the expiry back. The note in the bucket stays what
//! counts; a Backup object that Velero makes anew from the bucket has the first expiry again until it is told once more.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use velero_model::{name::BackupName, note::Effective, time};

use super::{Kind, Velero, VeleroError};
use crate::api::PatchKind;

/// Label of Backup objects that are on hold.
pub const HOLD_LABEL: &str = "kubectl-backup.io/hold";

impl Velero {
    /// Makes the Backup object say what was decided; `expiration` is what holds without a hold. `false`: there is no such
    /// object, which is no fault of a backup that Velero has not found yet.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn retain(
        &self,
        name: &BackupName,
        effective: &Effective,
        expiration: Option<Timestamp>,
    ) -> Result<bool, VeleroError> {
        let body = patch(effective.hold.is_some(), expiration).to_string();
        let path = self.path(Kind::Backup, name.as_str());
        match self.api.patch(&path, &PatchKind::Merge, Bytes::from(body)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn patch(is_held: bool, expiration: Option<Timestamp>) -> Value {
    let expiration = expiration.filter(|_| !is_held).map(time::format);
    json!({
        "metadata": { "labels": { HOLD_LABEL: is_held.then_some("true") } },
        "status": { "expiration": expiration },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_takes_the_expiry_away_and_its_end_puts_it_back() {
        let at: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let held = patch(true, Some(at));
        assert_eq!(held["status"]["expiration"], Value::Null);
        assert_eq!(held["metadata"]["labels"][HOLD_LABEL], "true");
        let released = patch(false, Some(at));
        assert_eq!(released["status"]["expiration"], "2026-12-01T00:00:00Z");
        assert_eq!(released["metadata"]["labels"][HOLD_LABEL], Value::Null);
    }
}
