//! `create` as meant.

use std::collections::BTreeMap;

use backup_plan::scope::Scope;
use jiff::Timestamp;
use velero_model::{duration::GoDuration, name::BackupName, time};

use super::{Place, RequestError, fields, scope};
use crate::arguments::{self, global::Global};

/// How long a backup is kept if nothing is said: Velero's own 30 days.
const DEFAULT_TTL_HOURS: u64 = 720;

/// A backup to make.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    /// Where to store it; `None` for a preview, which stores nothing.
    pub(crate) place: Option<Place>,
    pub(crate) name: BackupName,
    pub(crate) name_is_made_up: bool,
    pub(crate) scope: Scope,
    /// `None` keeps it for ever.
    pub(crate) ttl: Option<GoDuration>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) lock_until: Option<Timestamp>,
    /// Bytes per second.
    pub(crate) upload_bandwidth: Option<u64>,
}

pub(super) fn parse(
    typed: arguments::create::Create,
    global: &Global,
    place: Option<Place>,
    now: Timestamp,
) -> Result<Create, RequestError> {
    let name = match &typed.name {
        Some(name) => fields::name(name)?,
        None => BackupName::parse(&format!("backup-{}", time::compact(now)))?,
    };
    let ttl = match &typed.ttl {
        Some(text) => Some(fields::duration("--ttl", text)?).filter(|ttl| !ttl.0.is_zero()),
        None => Some(GoDuration::from_hours(DEFAULT_TTL_HOURS)),
    };
    let bandwidth = typed.upload_bandwidth.as_deref();
    let lock = typed.lock_until.as_deref();
    Ok(Create {
        place,
        name,
        name_is_made_up: typed.name.is_none(),
        ttl,
        labels: fields::pairs("--labels", &typed.labels, true)?,
        annotations: fields::pairs("--annotations", &typed.annotations, false)?,
        lock_until: lock
            .map(|text| fields::until("--lock-until", text, now))
            .transpose()?,
        upload_bandwidth: bandwidth
            .map(|text| fields::bytes("--upload-bandwidth", text))
            .transpose()?,
        scope: scope::parse(typed.scope, typed.ordered_resources.as_deref(), global)?,
    })
}

/// `--requests-per-second`, which is a property of the connection.
pub(super) fn requests_per_second(typed: &arguments::create::Create) -> Result<Option<f64>, RequestError> {
    let Some(text) = typed.requests_per_second.as_deref() else {
        return Ok(None);
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
        _ => Err(RequestError::flag(
            "--requests-per-second",
            text,
            "write a number above 0, such as 50",
        )),
    }
}
