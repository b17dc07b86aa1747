//! The manifest with which krew installs the plugin.
//!
//! In come the sums of the archives that were made and the address below which they will lie, out comes YAML. krew's
//! naming guide wants a name that is no generic word, has vendor words first and repeats no "kube"; `backup` alone would
//! not pass. krew links `kubectl-velero_protect` to the executable, so what a user types then is `kubectl velero-protect`, and
//! the program's help follows the name it is called by.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Platform, version};

/// The plugin's name in a krew index, and that of its manifest.
pub const NAME: &str = "velero-protect";

/// Stands for an address that nobody gave; no name below `.invalid` ever leads anywhere (RFC 2606).
pub const NOWHERE: &str = "https://no-download-url-was-given.invalid";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Metadata<'a>,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    version: String,
    short_description: &'a str,
    description: &'a str,
    caveats: &'a str,
    platforms: Vec<Installation<'a>>,
}

#[derive(Serialize)]
struct Installation<'a> {
    selector: Selector<'a>,
    uri: String,
    sha256: &'a str,
    bin: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Selector<'a> {
    match_labels: Labels<'a>,
}

#[derive(Serialize)]
struct Labels<'a> {
    os: &'a str,
    arch: &'a str,
}

/// The manifest for these archives.
pub(super) fn manifest(sums: &BTreeMap<Platform, String>, download_url: Option<&str>) -> Result<String> {
    let address = download_url.unwrap_or(NOWHERE).trim_end_matches('/');
    // krew follows no other scheme.
    ensure!(
        address.starts_with("https://") || address.starts_with("http://"),
        "{address} is no address that krew can download from: it begins with neither https:// nor http://"
    );
    let platforms = sums.iter().map(|(platform, sum)| Installation {
        selector: Selector {
            match_labels: Labels {
                os: &platform.os,
                arch: &platform.arch,
            },
        },
        uri: format!("{address}/{}", platform.archive()),
        sha256: sum,
        bin: platform.executable("kubectl-backup"),
    });
    let manifest = Manifest {
        api_version: "krew.googlecontainertools.github.com/v1alpha2",
        kind: "Plugin",
        metadata: Metadata { name: NAME },
        spec: Spec {
            version: format!("v{}", version()),
            short_description: "Back up and restore applications",
            description: "Backs up a whole cluster, namespaces or single objects to S3 or a folder, in Velero's\n\
                          storage format, and brings them back. Needs nothing installed in the cluster.\n",
            caveats: "The program calls itself `kubectl backup` in its hints. To call it so as well:\n  \
                      ln -s kubectl-velero_protect \"$(dirname \"$(command -v kubectl-velero_protect)\")/kubectl-backup\"\n",
            platforms: platforms.collect(),
        },
    };
    Ok(serde_saphyr::to_string(&manifest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_looks_like_a_number_stays_text() {
        let sum = format!("{}e{}", "1".repeat(31), "2".repeat(32));
        let sums = BTreeMap::from([(Platform::here(), sum.clone())]);
        let text = manifest(&sums, None).unwrap();
        assert!(
            text.contains(&format!("\"{sum}\"")) || text.contains(&format!("'{sum}'")),
            "{text}"
        );
    }

    #[test]
    fn an_address_is_one_that_krew_can_follow() {
        assert!(manifest(&BTreeMap::new(), Some("file:///srv")).is_err());
    }
}
