//! A Velero that this program puts into a cluster, moves to the version that it ships, and takes away.
//!
//! In comes a namespace; [`look`] says which Velero is there and whose it is, [`objects`] makes its objects of the manifests
//! that this program carries (pure), [`removal`] takes them away. What may be done with what was found is decided in
//! `backup_plan::velero_release`. Later code may rely on: a Velero that was installed here has its version on its namespace,
//! under the same annotations as our own parts, and nothing without that mark is ever removed.

pub mod look;
pub mod objects;
pub mod removal;

/// The Velero that this program installs.
pub const VERSION: &str = "v1.18.3";

/// The AWS plugin that goes with it.
pub const AWS_PLUGIN: &str = "v1.14.3";

/// Repository of the server's image.
pub const SERVER_IMAGE: &str = "velero/velero";

/// Repository of the plugin's image.
pub const PLUGIN_IMAGE: &str = "velero/velero-plugin-for-aws";

/// Where a kubelet keeps pods unless it is told otherwise.
pub const KUBELET_ROOT: &str = "/var/lib/kubelet";

/// Label of everything that `velero install` makes.
pub(crate) const COMPONENT: (&str, &str) = ("component", "velero");

/// The same repository with another tag: registries of one's own stay.
pub fn with_version(image: &str, version: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon before the last slash is the port of a registry.
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    format!("{name}:{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_stays() {
        for (image, expected) in [
            ("localhost/kubectl-backup:0.0.1", "localhost/kubectl-backup:2"),
            (
                "registry.local:5000/t/velero:v1@sha256:00",
                "registry.local:5000/t/velero:2",
            ),
            ("registry.local:5000/velero", "registry.local:5000/velero:2"),
            ("r/velero:1@sha256:00", "r/velero:2"),
        ] {
            assert_eq!(with_version(image, "2"), expected, "{image}");
        }
    }
}
