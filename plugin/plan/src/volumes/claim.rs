//! What is known of a claim: its class, its size, and whether its volume is a folder of the node.
//!
//! Each fact may be unknown (`None`): the claim may not have reached a cache yet, may have no class assigned, may not be
//! bound. Rules treat unknown as a value of its own.

use serde::Deserialize;

use super::pod::Text;
use super::pod_json::{Resources, Storage, null_as_default};
use super::quantity::Quantity;

/// Facts of a claim at the moment of a decision; none of them has to be known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClaimFacts<'a> {
    /// Name of its storage class; empty when it has none for good.
    pub storage_class: Option<&'a str>,
    /// What it has, or has asked for while it is not bound.
    pub capacity: Option<Quantity>,
    /// Whether its PersistentVolume is a folder of the node, which Velero does not back up.
    pub is_host_path: Option<bool>,
}

/// A claim as a cache keeps it: a few words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// Name of its storage class; empty when it has none for good.
    pub storage_class: Option<Box<str>>,
    /// What it has, or has asked for while it is not bound.
    pub capacity: Option<Quantity>,
    /// Name of its PersistentVolume once it is bound.
    pub volume_name: Option<Box<str>>,
}

impl Claim {
    /// Reads a PersistentVolumeClaim's JSON.
    ///
    /// # Errors
    /// When a field that is looked at has another type than in a claim.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let claim: PersistentVolumeClaim<'_> = serde_json::from_slice(json)?;
        let old_class = claim.metadata.annotations.storage_class.as_deref();
        let capacity = claim.status.capacity.quantity();
        Ok(Self::new(
            old_class.or(claim.spec.storage_class_name.as_deref()),
            capacity.or_else(|| claim.spec.resources.requests.quantity()),
            claim.spec.volume_name.as_deref(),
        ))
    }

    /// From the class it names, its size, and the volume it is bound to.
    pub fn new(storage_class: Option<&str>, capacity: Option<Quantity>, volume_name: Option<&str>) -> Self {
        let volume_name = volume_name.filter(|name| !name.is_empty());
        // A claim without class may still be given the default one, until it is bound.
        let storage_class = storage_class.or(volume_name.map(|_| ""));
        Self {
            storage_class: storage_class.map(Into::into),
            capacity,
            volume_name: volume_name.map(Into::into),
        }
    }

    /// The facts, once somebody has looked up what its volume is.
    pub fn facts(&self, is_host_path: Option<bool>) -> ClaimFacts<'_> {
        ClaimFacts {
            storage_class: self.storage_class.as_deref(),
            capacity: self.capacity,
            is_host_path,
        }
    }
}

#[derive(Deserialize)]
struct PersistentVolumeClaim<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    spec: Spec<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    annotations: Annotations<'a>,
}

#[derive(Default, Deserialize)]
struct Annotations<'a> {
    /// How classes were named before there was a field; the server still lets it win.
    #[serde(borrow, default, rename = "volume.beta.kubernetes.io/storage-class")]
    storage_class: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    storage_class_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    volume_name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    resources: Resources<'a>,
}

#[derive(Default, Deserialize)]
struct Status<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    capacity: Storage<'a>,
}

/// Whether a PersistentVolume's JSON is one of a folder of the node.
///
/// # Errors
/// When it is no object.
pub fn is_host_path_volume(json: &[u8]) -> Result<bool, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct HostPath {
        #[serde(default)]
        host_path: Option<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct PersistentVolume {
        spec: HostPath,
    }
    Ok(serde_json::from_slice::<PersistentVolume>(json)?
        .spec
        .host_path
        .is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_known_as_far_as_it_is_settled() {
        let request = json!({ "requests": { "storage": "5Gi" } });
        let five = Quantity::parse("5Gi").ok();
        for (case, claim, expected) in [
            (
                "nothing yet",
                json!({ "metadata": {}, "spec": {}, "status": null }),
                Claim::default(),
            ),
            (
                "not bound, waiting for a default class",
                json!({ "spec": { "resources": request }, "status": { "phase": "Pending" } }),
                Claim {
                    capacity: five,
                    ..Claim::default()
                },
            ),
            (
                "bound by hand without class",
                json!({ "spec": { "volumeName": "pv-1", "resources": request } }),
                Claim {
                    storage_class: Some("".into()),
                    capacity: five,
                    volume_name: Some("pv-1".into()),
                },
            ),
            (
                "bound and bigger than it asked for",
                json!({ "spec": { "storageClassName": "fast", "volumeName": "pv-1", "resources": request },
                    "status": { "capacity": { "storage": "8Gi" } } }),
                Claim::new(Some("fast"), Quantity::parse("8Gi").ok(), Some("pv-1")),
            ),
            (
                "the old annotation",
                json!({ "metadata": { "annotations": { "volume.beta.kubernetes.io/storage-class": "old" } },
                    "spec": { "storageClassName": "new" } }),
                Claim::new(Some("old"), None, None),
            ),
        ] {
            assert_eq!(
                Claim::parse(claim.to_string().as_bytes()).unwrap(),
                expected,
                "{case}"
            );
        }
    }

    #[test]
    fn host_paths_are_told_from_other_volumes() {
        assert!(is_host_path_volume(br#"{"spec":{"hostPath":{"path":"/x"}}}"#).unwrap());
        assert!(!is_host_path_volume(br#"{"spec":{"csi":{}}}"#).unwrap());
        assert!(!is_host_path_volume(br#"{"spec":{"hostPath":null}}"#).unwrap());
        assert!(is_host_path_volume(b"[]").is_err());
    }
}
