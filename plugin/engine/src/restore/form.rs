//! An object of the backup in a version that the cluster serves.
//!
//! In come the kind and the JSON as they are stored; out go the cluster's kind and the object for it. Nearly always that is
//! the object itself. Otherwise [`backup_plan::restore::versions`] decides: a copy that the backup holds in another version,
//! a move to a version of identical schema, or a refusal with the version to convert to. That a kind is restored in another
//! form is said once.

use backup_plan::restore::versions::{Form, choose, moved};
use bytes::Bytes;
use serde_json::Value;
use velero_model::{index::Entry, resource::ApiKind};

use super::{apply::Refusal, run::Run};

/// An object and the kind under which it is written.
pub(super) struct Formed {
    pub(super) target: ApiKind,
    pub(super) object: Value,
}

/// Brings an object into a form that the cluster takes.
pub(super) async fn formed(
    run: &Run,
    kind: &ApiKind,
    entry: &Entry,
    json: &Bytes,
) -> Result<Formed, Refusal> {
    let served = run.served();
    let reason = match served.find(kind) {
        Ok(target) => {
            let target = target.clone();
            return Ok(Formed {
                target,
                object: parse(json)?,
            });
        }
        Err(reason) => reason,
    };
    let versions = served.versions_of(kind);
    if versions.is_empty() || versions.contains(&kind.version.as_str()) {
        return Err(Refusal::Object(reason));
    }
    let copied = run.objects.copied_versions(&entry.resource_group);
    let copied: Vec<&str> = copied.iter().map(String::as_str).collect();
    let mut form = choose(kind, &versions, &copied);
    let mut copy = None;
    if let Form::Copy { version } = &form {
        copy = run.objects.copy(entry, version).await?;
        if copy.is_none() {
            form = moved(kind, &versions);
        }
    }
    let stored = &kind.version;
    let (version, object) = match form {
        Form::AsStored => (stored.clone(), parse(json)?),
        Form::Copy { version } => {
            run.warn_once(&format!(
                "{kind}: the cluster does not serve version {stored}; restored from the copies in version {version} that \
                 the backup holds"
            ));
            (version, parse(&copy.unwrap_or_default())?)
        }
        Form::Moved(row) => {
            let mut object = parse(json)?;
            row.apply(&mut object).map_err(Refusal::Object)?;
            run.warn_once(&format!(
                "{kind}: the cluster does not serve version {stored}; restored in version {} ({})",
                row.to, row.reason
            ));
            (row.to.to_owned(), object)
        }
        Form::Refused(reason) => return Err(Refusal::Object(reason)),
    };
    let wanted = ApiKind {
        version,
        ..kind.clone()
    };
    let target = served.find(&wanted).map_err(Refusal::Object)?.clone();
    if object["apiVersion"].as_str() != Some(target.api_version().as_str()) {
        return Err(Refusal::Object(format!(
            "the backup's copy in version {} says that it is of {}; convert the object (kubectl backup cat) and apply it \
             by hand",
            target.version, object["apiVersion"]
        )));
    }
    Ok(Formed { target, object })
}

fn parse(json: &Bytes) -> Result<Value, Refusal> {
    serde_json::from_slice(json).map_err(|_| Refusal::not_json())
}
