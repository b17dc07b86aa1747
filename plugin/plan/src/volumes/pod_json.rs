//! The reading of a pod's JSON into [`PodFacts`].
//!
//! A field that is `null` counts as absent, as in Go. Of annotations only four are kept, of containers only the names of
//! what they mount; the rest is skipped without being built.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use velero_model::api::{BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES, CHOSEN_BY};

use super::pod::{Labels, Owner, PodFacts, Source, Text, VolumeFacts};
use super::quantity::Quantity;

/// The kubelet's mark on the image of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    spec: Spec<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    status: Status<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    name: Text<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    generate_name: Text<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    namespace: Text<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    labels: Labels<'a>,
    #[serde(borrow, default)]
    annotations: Option<Annotations<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    owner_references: Vec<OwnerReference<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference<'a> {
    #[serde(borrow, default)]
    api_version: Text<'a>,
    #[serde(borrow, default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    controller: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Status<'a> {
    #[serde(borrow, default)]
    phase: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    volumes: Vec<Volume<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    containers: Vec<Container<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    init_containers: Vec<Container<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    volume_mounts: Vec<Named<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    volume_devices: Vec<Named<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    name: Text<'a>,
}

struct Volume<'a> {
    name: Text<'a>,
    source: Source<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimSource<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    claim_name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EphemeralSource<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    volume_claim_template: Template<'a>,
}

#[derive(Default, Deserialize)]
struct Template<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    spec: TemplateSpec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateSpec<'a> {
    #[serde(borrow, default)]
    storage_class_name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    resources: Resources<'a>,
}

/// `resources` of a claim or of a template.
#[derive(Default, Deserialize)]
pub(super) struct Resources<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    pub(super) requests: Storage<'a>,
}

/// A list of resources, of which storage is read.
#[derive(Default, Deserialize)]
pub(super) struct Storage<'a> {
    #[serde(borrow, default)]
    pub(super) storage: Option<Text<'a>>,
}

impl Storage<'_> {
    pub(super) fn quantity(&self) -> Option<Quantity> {
        Quantity::parse(self.storage.as_deref()?).ok()
    }
}

#[derive(Default)]
struct Annotations<'a> {
    backup_volumes: Option<Text<'a>>,
    backup_volumes_excludes: Option<Text<'a>>,
    chosen_by: Option<Text<'a>>,
    is_mirror: bool,
}

/// Go's reading of `null`.
pub(super) fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl<'de> Visitor<'de> for Wanted {
            type Value = Annotations<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Annotations::default();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    match &*key {
                        BACKUP_VOLUMES => found.backup_volumes = map.next_value()?,
                        BACKUP_VOLUMES_EXCLUDES => found.backup_volumes_excludes = map.next_value()?,
                        CHOSEN_BY => found.chosen_by = map.next_value()?,
                        key => {
                            found.is_mirror |= key == MIRROR;
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Wanted)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl<'de> Visitor<'de> for Wanted {
            type Value = Labels<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'de>, Option<Text<'de>>>()? {
                    labels.push((key, value.unwrap_or_default()));
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Wanted)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Volume<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl<'de> Visitor<'de> for Wanted {
            type Value = Volume<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a volume")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut name, mut source) = (None, None);
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    if &*key == "name" {
                        name = map.next_value::<Option<Text<'de>>>()?;
                    } else if let Some(found) = volume_source(key, &mut map)? {
                        source = Some(found);
                    }
                }
                Ok(Volume {
                    name: name.ok_or_else(|| A::Error::missing_field("name"))?,
                    // The server makes an emptyDir of a volume without source.
                    source: source.unwrap_or(Source::EmptyDir),
                })
            }
        }
        deserializer.deserialize_map(Wanted)
    }
}

fn volume_source<'de, A: MapAccess<'de>>(
    key: Text<'de>,
    map: &mut A,
) -> Result<Option<Source<'de>>, A::Error> {
    match &*key {
        "persistentVolumeClaim" => {
            let source = map.next_value::<Option<ClaimSource<'de>>>()?;
            return Ok(source.map(|source| Source::PersistentVolumeClaim {
                claim_name: source.claim_name,
            }));
        }
        "ephemeral" => {
            let source = map.next_value::<Option<EphemeralSource<'de>>>()?;
            return Ok(source.map(|source| {
                let spec = source.volume_claim_template.spec;
                Source::Ephemeral {
                    capacity: spec.resources.requests.quantity(),
                    storage_class: spec.storage_class_name,
                }
            }));
        }
        _ => {}
    }
    if map.next_value::<Option<IgnoredAny>>()?.is_none() {
        return Ok(None);
    }
    Ok(Some(match &*key {
        "emptyDir" => Source::EmptyDir,
        "csi" => Source::Csi,
        "nfs" => Source::Nfs,
        "hostPath" => Source::HostPath,
        "secret" => Source::Secret,
        "configMap" => Source::ConfigMap,
        "projected" => Source::Projected,
        "downwardAPI" => Source::DownwardApi,
        _ => Source::Other(key),
    }))
}

/// Sorted names of what containers mount or use, so that a pod with thousands of both costs no product.
fn names<'s, 'a>(
    containers: &'s [Container<'a>],
    field: impl Fn(&'s Container<'a>) -> &'s [Named<'a>],
) -> Vec<&'s str> {
    let mut names: Vec<&str> = containers
        .iter()
        .flat_map(field)
        .map(|used| &*used.name)
        .collect();
    names.sort_unstable();
    names
}

pub(super) fn parse(json: &[u8]) -> Result<PodFacts<'_>, serde_json::Error> {
    let Pod {
        metadata,
        spec,
        status,
    } = serde_json::from_slice(json)?;
    let mounts = names(&spec.containers, |container| &container.volume_mounts);
    let devices = names(&spec.containers, |container| &container.volume_devices);
    let init_mounts = names(&spec.init_containers, |container| &container.volume_mounts);
    let uses = |names: &[&str], volume: &str| names.binary_search(&volume).is_ok();
    let volumes = spec
        .volumes
        .into_iter()
        .map(|volume| VolumeFacts {
            is_mounted: uses(&mounts, &volume.name),
            is_device: uses(&devices, &volume.name),
            is_mounted_by_init: uses(&init_mounts, &volume.name),
            name: volume.name,
            source: volume.source,
        })
        .collect();
    let has_annotations = metadata.annotations.is_some();
    let annotations = metadata.annotations.unwrap_or_default();
    let owner = metadata
        .owner_references
        .into_iter()
        .find(|reference| reference.controller == Some(true))
        .map(|reference| Owner {
            api_version: reference.api_version,
            kind: reference.kind,
            name: reference.name,
        });
    Ok(PodFacts {
        name: metadata.name,
        generate_name: metadata.generate_name,
        namespace: metadata.namespace,
        labels: metadata.labels,
        has_annotations,
        backup_volumes: annotations.backup_volumes,
        backup_volumes_excludes: annotations.backup_volumes_excludes,
        chosen_by: annotations.chosen_by,
        is_mirror: annotations.is_mirror,
        owner,
        phase: status.phase,
        volumes,
    })
}
