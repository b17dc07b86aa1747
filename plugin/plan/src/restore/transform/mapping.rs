//! Names that change on the way into another cluster: namespaces where an object refers to them, storage classes, images.
//!
//! In comes the body with Velero's item actions done; out goes the body with every reference mapped whose meaning is
//! certain, and which rules found something to map ([`Applied`]), so that a rule that mapped nothing in a whole restore can
//! be reported. What only might be a reference is left alone; [`super::free_text`] names it.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};
use velero_model::resource::ApiKind;

use super::{Options, at, list};

/// A rule of the restore that changed an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Applied {
    /// A pair of `--storage-class-mappings`.
    StorageClass {
        /// The class in the backup.
        from: String,
        /// The class in the cluster.
        to: String,
    },
    /// A pair of `--image-mappings`.
    Image {
        /// The prefix in the backup.
        from: String,
        /// What takes its place.
        to: String,
    },
    /// A rule of the resource modifiers, counted from 1.
    Modifier {
        /// Its number.
        rule: usize,
    },
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StorageClass { from, to } => write!(f, "--storage-class-mappings {from}:{to}"),
            Self::Image { from, to } => write!(f, "--image-mappings {from}={to}"),
            Self::Modifier { rule } => write!(f, "rule {rule} of the resource modifiers"),
        }
    }
}

/// The label that every namespace carries with its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Before the class had a field, it was an annotation; both are still read.
const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

impl Options {
    /// The rules of which each should find something in a restore.
    pub fn rules(&self) -> Vec<Applied> {
        let owned = |(from, to): (&String, &String)| (from.clone(), to.clone());
        let classes = self.storage_class_mapping.iter().map(owned);
        let images = self.image_mapping.iter().map(owned);
        let modifiers = self.modifiers.iter().flat_map(|modifiers| 1..=modifiers.len());
        classes
            .map(|(from, to)| Applied::StorageClass { from, to })
            .chain(images.map(|(from, to)| Applied::Image { from, to }))
            .chain(modifiers.map(|rule| Applied::Modifier { rule }))
            .collect()
    }

    /// The same for objects of the cluster, which have their final names and forms.
    #[must_use]
    pub fn for_live_objects(&self) -> Self {
        Self {
            namespace_mapping: BTreeMap::new(),
            storage_class_mapping: BTreeMap::new(),
            image_mapping: BTreeMap::new(),
            modifiers: None,
            ..self.clone()
        }
    }
}

/// Maps namespaces that selectors and pods name; bindings, webhooks and the like have theirs mapped with their actions.
pub(super) fn namespaces(kind: &ApiKind, fields: &mut Map<String, Value>, options: &Options) {
    if options.namespace_mapping.is_empty() {
        return;
    }
    match kind.group.as_str() {
        "networking.k8s.io" if kind.plural == "networkpolicies" => selectors(fields, options),
        "admissionregistration.k8s.io" => {
            selectors(fields, options);
            options.map_at(fields, &["spec", "paramRef"], "namespace");
        }
        _ => {
            if let Some(affinity) = pod_spec(kind, fields).and_then(|spec| spec.get_mut("affinity"))
                && let Some(affinity) = affinity.as_object_mut()
            {
                selectors(affinity, options);
            }
        }
    }
}

/// Maps what stands under `namespaceSelector` and `namespaces`, however deep.
fn selectors(fields: &mut Map<String, Value>, options: &Options) {
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("namespaceSelector", Value::Object(selector)) => map_selector(selector, options),
            ("namespaces", Value::Array(names)) => map_names(names, options),
            (_, Value::Object(inner)) => selectors(inner, options),
            (_, Value::Array(items)) => {
                for item in items.iter_mut().filter_map(Value::as_object_mut) {
                    selectors(item, options);
                }
            }
            _ => {}
        }
    }
}

fn map_selector(selector: &mut Map<String, Value>, options: &Options) {
    options.map_at(selector, &["matchLabels"], NAMESPACE_NAME);
    for expression in list(selector, &[], "matchExpressions") {
        if expression["key"] == NAMESPACE_NAME
            && let Some(values) = expression.get_mut("values").and_then(Value::as_array_mut)
        {
            map_names(values, options);
        }
    }
}

fn map_names(names: &mut [Value], options: &Options) {
    for name in names {
        if let Value::String(name) = name
            && let Some(mapped) = options.namespace_mapping.get(name.as_str())
        {
            name.clone_from(mapped);
        }
    }
}

/// The pod spec of a pod, or of the template that a workload makes pods from.
pub(super) fn pod_spec<'a>(
    kind: &ApiKind,
    fields: &'a mut Map<String, Value>,
) -> Option<&'a mut Map<String, Value>> {
    let path: &[&str] = match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => &["spec"],
        ("", "podtemplates") => &["template", "spec"],
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &["spec", "template", "spec"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => return None,
    };
    at(fields, path)
}

/// Maps the storage classes of claims, volumes, and the templates that claims are made from.
pub(super) fn storage_classes(
    kind: &ApiKind,
    fields: &mut Map<String, Value>,
    options: &Options,
    applied: &mut Vec<Applied>,
) {
    if options.storage_class_mapping.is_empty() {
        return;
    }
    if kind.group.is_empty()
        && matches!(
            kind.plural.as_str(),
            "persistentvolumeclaims" | "persistentvolumes"
        )
    {
        storage_class(fields, options, applied);
    }
    if kind.group == "apps" && kind.plural == "statefulsets" {
        for template in list(fields, &["spec"], "volumeClaimTemplates") {
            if let Some(template) = template.as_object_mut() {
                storage_class(template, options, applied);
            }
        }
    }
    if let Some(spec) = pod_spec(kind, fields) {
        for volume in list(spec, &[], "volumes") {
            let template = volume.pointer_mut("/ephemeral/volumeClaimTemplate");
            if let Some(template) = template.and_then(Value::as_object_mut) {
                storage_class(template, options, applied);
            }
        }
    }
}

fn storage_class(fields: &mut Map<String, Value>, options: &Options, applied: &mut Vec<Applied>) {
    for (path, key) in [
        (&["spec"][..], "storageClassName"),
        (&["metadata", "annotations"], BETA_STORAGE_CLASS),
    ] {
        if let Some(Value::String(class)) = at(fields, path).and_then(|fields| fields.get_mut(key))
            && let Some(to) = options.storage_class_mapping.get(class.as_str())
        {
            let from = std::mem::replace(class, to.clone());
            applied.push(Applied::StorageClass { from, to: to.clone() });
        }
    }
}

/// Maps the images of all containers, and of volumes that are images.
pub(super) fn images(
    kind: &ApiKind,
    fields: &mut Map<String, Value>,
    options: &Options,
    applied: &mut Vec<Applied>,
) {
    if options.image_mapping.is_empty() {
        return;
    }
    let Some(spec) = pod_spec(kind, fields) else {
        return;
    };
    let mut map = |image: Option<&mut Value>| {
        if let Some(Value::String(image)) = image
            && let Some((mapped, from, to)) = mapped_image(image, &options.image_mapping)
        {
            let (from, to) = (from.to_owned(), to.to_owned());
            *image = mapped;
            applied.push(Applied::Image { from, to });
        }
    };
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(spec, &[], key) {
            map(container.get_mut("image"));
        }
    }
    for volume in list(spec, &[], "volumes") {
        map(volume.pointer_mut("/image/reference"));
    }
}

/// The image under its new name, with the rule that gave it: the longest prefix that ends where a part of the name ends.
fn mapped_image<'a>(
    image: &str,
    mapping: &'a BTreeMap<String, String>,
) -> Option<(String, &'a str, &'a str)> {
    let full = full_name(image);
    let rest_of = |from: &str| {
        let rest = image.strip_prefix(from).filter(|rest| ends_part(rest));
        rest.or_else(|| full.as_deref()?.strip_prefix(from).filter(|rest| ends_part(rest)))
    };
    let matching = mapping
        .iter()
        .filter_map(|(from, to)| Some((rest_of(from)?, from, to)));
    let (rest, from, to) = matching.max_by_key(|(_, from, _)| from.len())?;
    Some((format!("{to}{rest}"), from, to))
}

/// Whether a prefix ended with a whole part of the name: before `/`, a tag or a digest. What looks like a tag and is
/// followed by more parts is the port of a registry.
fn ends_part(rest: &str) -> bool {
    match rest.as_bytes().first() {
        None | Some(b'/' | b'@') => true,
        Some(b':') => !rest.contains('/'),
        Some(_) => false,
    }
}

/// `docker.io/library/nginx` for `nginx`: what a container runtime makes of a name without a registry.
fn full_name(image: &str) -> Option<String> {
    let (first, has_more) = match image.split_once('/') {
        Some((first, _)) => (first, true),
        None => (image, false),
    };
    let is_registry = has_more && (first.contains(['.', ':']) || first == "localhost");
    match (is_registry, has_more) {
        (true, _) => None,
        (false, true) => Some(format!("docker.io/{image}")),
        (false, false) => Some(format!("docker.io/library/{image}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_mapped_on_whole_parts_by_the_longest_prefix() {
        let mapping: BTreeMap<String, String> = [
            ("registry.io", "mirror.io"),
            ("registry.io/team", "mirror.io/ours"),
            ("registry.io:5000", "mirror.io:443/five"),
            ("docker.io", "mirror.io/hub"),
            ("registry.io/app:1.0", "mirror.io/app:1.1"),
        ]
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .into();
        for (image, expected) in [
            ("registry.io/web:1", Some("mirror.io/web:1")),
            (
                "registry.io/team/web@sha256:ab",
                Some("mirror.io/ours/web@sha256:ab"),
            ),
            ("registry.io/team2/web", Some("mirror.io/team2/web")),
            ("registry.io/team:1", Some("mirror.io/ours:1")),
            ("registry.iox/web", None),
            ("registry.io:5000/web", Some("mirror.io:443/five/web")),
            ("registry.io:5001/web", None),
            ("registry.io/app:1.0", Some("mirror.io/app:1.1")),
            ("registry.io/app:1.0.1", Some("mirror.io/app:1.0.1")),
            (
                "registry.io/app:1.0@sha256:ab",
                Some("mirror.io/app:1.1@sha256:ab"),
            ),
            ("nginx", Some("mirror.io/hub/library/nginx")),
            ("bitnami/redis:7", Some("mirror.io/hub/bitnami/redis:7")),
            ("docker.io/library/nginx:1", Some("mirror.io/hub/library/nginx:1")),
            ("localhost/nginx", None),
            ("quay.io/nginx", None),
            ("", Some("mirror.io/hub/library/")),
        ] {
            let mapped = mapped_image(image, &mapping).map(|(mapped, ..)| mapped);
            // An empty image is refused by the API server before and after.
            assert_eq!(mapped.as_deref(), expected, "{image}");
        }
    }
}
