//! What a claim finds in place of the volume it was bound to.
//!
//! In comes a claim of the backup; out goes the fate of its volume. A volume that outlives its claim is looked for in the
//! cluster and in the backup. One that this very claim left behind when it was deleted is given back to it: it holds the
//! data, and nothing but the dead claim's UID keeps the new claim from it.

use backup_plan::restore::transform::{Options, VolumeFate, volume_fate};
use serde_json::{Value, json};
use velero_model::resource::ApiKind;

use super::{
    apply::{self, Refusal},
    report::Subject,
    run::Run,
};
use crate::api::{PatchKind, object_path};

const VOLUMES: &str = "persistentvolumes";

/// The fate of the volume of a claim; of no meaning for other kinds.
pub(super) async fn fate(
    run: &Run,
    kind: &ApiKind,
    object: &Value,
    subject: &Subject,
) -> Result<VolumeFate, Refusal> {
    let volume = object
        .pointer("/spec/volumeName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !kind.group.is_empty() || kind.plural != "persistentvolumeclaims" || volume.is_empty() {
        return Ok(VolumeFate::Kept);
    }
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    run.note_claim(text("namespace"), text("name"));
    if let Some(snapshot) = run.snapshot_of(text("namespace"), text("name")) {
        run.announce_data(subject, text("namespace"), text("name"), snapshot)
            .await?;
        return Ok(VolumeFate::Filled);
    }
    let stored = match run.stored(VOLUMES, volume).await? {
        Some((entry, json)) => {
            let json = json?;
            let object = serde_json::from_slice::<Value>(&json).map_err(|_| Refusal::not_json())?;
            match volume_fate(&object) {
                VolumeFate::Kept => Some((entry, json)),
                lost => return Ok(lost),
            }
        }
        None => None,
    };
    // While a plan is made, what it holds counts as there.
    if run.comes(VOLUMES, subject, volume) {
        return Ok(VolumeFate::Kept);
    }
    if let Some(live) = live_volume(run, volume).await? {
        return live_fate(run, volume, &live, object, subject).await;
    }
    let Some((entry, json)) = stored else {
        return Ok(VolumeFate::Missing);
    };
    let kind = run.objects.directory().kind(VOLUMES).cloned();
    if let Some(kind) = kind.filter(|kind| run.selection.source.takes_related(kind)) {
        // A volume among the selected ones came before the claims; if it is not there it was refused, and said so.
        if !run.selects(&entry) {
            // The other way round it would be a loop: writing a volume asks for the fate of claims.
            Box::pin(apply::entry(run, &kind, &entry, Ok(json))).await?;
        }
    }
    if run.comes(VOLUMES, subject, volume) {
        return Ok(VolumeFate::Kept);
    }
    Ok(match live_volume(run, volume).await? {
        Some(_) => VolumeFate::Kept,
        None => VolumeFate::Missing,
    })
}

async fn live_volume(run: &Run, volume: &str) -> Result<Option<Value>, Refusal> {
    let Some(body) = run.get(&object_path(&volumes(), None, volume)).await? else {
        return Ok(None);
    };
    Ok(serde_json::from_slice(&body).ok())
}

fn volumes() -> ApiKind {
    ApiKind {
        group: String::new(),
        version: "v1".to_owned(),
        plural: VOLUMES.to_owned(),
        kind: "PersistentVolume".to_owned(),
        namespaced: false,
    }
}

async fn live_fate(
    run: &Run,
    volume: &str,
    live: &Value,
    claim: &Value,
    subject: &Subject,
) -> Result<VolumeFate, Refusal> {
    let holder = holder(live, claim, subject);
    if !matches!(holder, Holder::Other(_))
        && let Some(message) = other_class(&run.options, volume, live, claim)
    {
        run.report.warn(
            subject.namespace.as_deref(),
            &format!("{}: {message}", subject.text()),
        );
    }
    match holder {
        Holder::Nobody | Holder::ThisClaim => Ok(VolumeFate::Kept),
        Holder::ThisClaimBefore => {
            let patch = json!({"metadata": {"uid": live["metadata"]["uid"]},
                "spec": {"claimRef": {"uid": null, "resourceVersion": null}}});
            let path = object_path(&volumes(), None, volume);
            let body = patch.to_string().into();
            let message = match run.writes.patch(&path, &PatchKind::Merge, body).await {
                Ok(_) => format!(
                    "volume {volume} was left behind by this claim and is given back to it, with its data"
                ),
                Err(error) => format!(
                    "volume {volume} was left behind by this claim and cannot be given back to it: {}; remove \
                     spec.claimRef.uid from it by hand",
                    error.server_message()
                ),
            };
            run.note(subject, &message);
            Ok(VolumeFate::Kept)
        }
        Holder::Other(other) => {
            let message = format!(
                "its volume {volume} belongs to claim {other} in this cluster, so the claim gets a new, empty volume"
            );
            run.note(subject, &message);
            Ok(VolumeFate::Missing)
        }
    }
}

/// Why a claim whose class is mapped will not bind to the volume that waits for it.
fn other_class(options: &Options, volume: &str, live: &Value, claim: &Value) -> Option<String> {
    let class = |object: &Value| {
        object["spec"]["storageClassName"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let (has, had) = (class(live), class(claim));
    let wants = options.storage_class_mapping.get(&had)?;
    (has != *wants).then(|| {
        format!(
            "its volume {volume} is in the cluster with storage class {has:?}, and --storage-class-mappings gives the claim \
             {wants:?}, so the two will not be bound; give the volume the class {wants:?}, or leave the mapping out"
        )
    })
}

/// Whose a volume of the cluster is.
#[derive(Debug, PartialEq)]
enum Holder {
    Nobody,
    ThisClaim,
    /// The claim of the backup, which was deleted since.
    ThisClaimBefore,
    Other(String),
}

fn holder(live: &Value, claim: &Value, subject: &Subject) -> Holder {
    let reference = &live["spec"]["claimRef"];
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    if text("name").is_empty() {
        return Holder::Nobody;
    }
    let namespace = subject.namespace.as_deref().unwrap_or_default();
    if (text("namespace"), text("name")) != (namespace, subject.name.as_str()) {
        return Holder::Other(format!("{}/{}", text("namespace"), text("name")));
    }
    let old_uid = claim["metadata"]["uid"].as_str().unwrap_or_default();
    if !old_uid.is_empty() && text("uid") == old_uid && live["status"]["phase"] == "Released" {
        Holder::ThisClaimBefore
    } else {
        Holder::ThisClaim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_would_not_find_its_volume_is_named() {
        let options = Options {
            storage_class_mapping: [("fast".to_owned(), "slow".to_owned())].into(),
            ..Options::default()
        };
        let of = |class: &str| json!({"spec": {"storageClassName": class}});
        for (live, claim, warns) in [
            ("fast", "fast", true),
            ("slow", "fast", false),
            ("fast", "other", false),
        ] {
            let message = other_class(&options, "v", &of(live), &of(claim));
            assert_eq!(message.is_some(), warns, "{live} {claim}");
        }
    }

    #[test]
    fn a_volume_goes_back_only_to_the_claim_that_left_it() {
        let subject = Subject {
            kind: volumes(),
            resource_group: "persistentvolumeclaims".into(),
            namespace: Some("shop".into()),
            name: "data".into(),
        };
        let claim = json!({"metadata": {"uid": "old"}});
        for (reference, phase, expected) in [
            (json!(null), "Available", Holder::Nobody),
            (
                json!({"namespace": "shop", "name": "data", "uid": "old"}),
                "Released",
                Holder::ThisClaimBefore,
            ),
            (
                json!({"namespace": "shop", "name": "data", "uid": "old"}),
                "Bound",
                Holder::ThisClaim,
            ),
            (
                json!({"namespace": "shop", "name": "data", "uid": "another"}),
                "Released",
                Holder::ThisClaim,
            ),
            (
                json!({"namespace": "shop", "name": "data"}),
                "Available",
                Holder::ThisClaim,
            ),
            (
                json!({"namespace": "old-shop", "name": "data", "uid": "old"}),
                "Released",
                Holder::Other("old-shop/data".into()),
            ),
        ] {
            let live = json!({"spec": {"claimRef": reference}, "status": {"phase": phase}});
            assert_eq!(holder(&live, &claim, &subject), expected, "{live}");
        }
    }
}
