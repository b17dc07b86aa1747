//! The SBOM: an SPDX 2.3 document, which is ISO/IEC 5962 and read by the usual scanners.
//!
//! In come crates and Debian packages, out comes JSON: the image, which contains both binaries and the Debian packages; and
//! the binaries, which depend on crates. The same document serves the archive beside the image, which holds the same
//! binaries. Equal input gives an equal document, its namespace included.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::crates::{Crates, Id, Linked};
use super::debian::Package;
use super::{BINARIES, version};
use crate::image::archive::hexadecimal;

/// SPDX for "nobody has looked".
const NOTHING_SAID: &str = "NOASSERTION";

/// What a document is made of.
#[derive(Debug)]
pub(super) struct Bill {
    pub(super) image_name: String,
    pub(super) image_digest: String,
    /// As Go names it.
    pub(super) architecture: String,
    pub(super) archive: String,
    pub(super) archive_sum: String,
    pub(super) crates: Crates,
    pub(super) debian: Vec<Package>,
    pub(super) created: Timestamp,
}

impl Bill {
    /// The document.
    pub(super) fn document(&self) -> Value {
        let mut packages = vec![self.image(), self.archive()];
        let mut relationships = vec![
            relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image"),
            relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-archive"),
        ];
        for (id, linked) in &self.crates.by_id {
            packages.push(crate_package(id, linked));
            for dependency in &linked.depends_on {
                relationships.push(relationship(&crate_id(id), "DEPENDS_ON", &crate_id(dependency)));
            }
        }
        packages.push(self.standard_library());
        for binary in BINARIES {
            let id = crate_id(&(binary.to_owned(), version().to_owned()));
            relationships.push(relationship("SPDXRef-image", "CONTAINS", &id));
            relationships.push(relationship("SPDXRef-archive", "CONTAINS", &id));
            relationships.push(relationship(&id, "STATIC_LINK", "SPDXRef-rust-std"));
        }
        for package in &self.debian {
            packages.push(debian_package(package));
            relationships.push(relationship("SPDXRef-image", "CONTAINS", &debian_id(package)));
        }
        // Two documents of different content must not share a namespace.
        let content = hexadecimal(json!([packages, relationships]).to_string().as_bytes());
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": format!("kubectl-backup-{}", version()),
            "documentNamespace": format!("https://spdx.org/spdxdocs/kubectl-backup-{}-{content}", version()),
            "creationInfo": {
                "created": self.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "creators": ["Organization: kubectl-backup", format!("Tool: make-release-{}", version())],
            },
            "packages": packages,
            "relationships": relationships,
        })
    }

    fn image(&self) -> Value {
        let name = self
            .image_name
            .rsplit_once(':')
            .map_or(self.image_name.as_str(), |(name, _)| name);
        let name = name.rsplit('/').next().unwrap_or(name);
        let digest = self
            .image_digest
            .strip_prefix("sha256:")
            .unwrap_or(&self.image_digest);
        let purl = format!(
            "pkg:oci/{name}@sha256%3A{digest}?arch={}&tag={}",
            self.architecture,
            version()
        );
        let mut package = package("SPDXRef-image", &format!("{name}-image"), version(), "Apache-2.0");
        package["primaryPackagePurpose"] = json!("CONTAINER");
        package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": digest }]);
        package["externalRefs"] = purl_reference(&purl);
        package
    }

    fn archive(&self) -> Value {
        let mut package = package("SPDXRef-archive", &self.archive, version(), "Apache-2.0");
        package["primaryPackagePurpose"] = json!("ARCHIVE");
        package["packageFileName"] = json!(self.archive);
        package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": self.archive_sum }]);
        package
    }

    fn standard_library(&self) -> Value {
        let mut package = package(
            "SPDXRef-rust-std",
            "rust-std",
            &self.crates.rust,
            "MIT OR Apache-2.0",
        );
        let purl = format!("pkg:generic/rust-std@{}", self.crates.rust);
        package["externalRefs"] = purl_reference(&purl);
        package
    }
}

fn package(id: &str, name: &str, version: &str, licence: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "versionInfo": version,
        "downloadLocation": NOTHING_SAID,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING_SAID,
        "licenseDeclared": licence,
        "copyrightText": NOTHING_SAID,
    })
}

fn crate_package(id: &Id, linked: &Linked) -> Value {
    let (name, version) = id;
    let licence = match linked.licence.as_str() {
        "" => NOTHING_SAID.to_owned(),
        // The old form of "or", which SPDX does not know.
        licence => licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR "),
    };
    let mut package = package(&crate_id(id), name, version, &licence);
    if !linked.repository.is_empty() {
        package["homepage"] = json!(linked.repository);
    }
    if let Some(checksum) = &linked.checksum {
        package["downloadLocation"] = json!(format!(
            "https://crates.io/api/v1/crates/{name}/{version}/download"
        ));
        package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": checksum }]);
        package["externalRefs"] = purl_reference(&format!("pkg:cargo/{name}@{}", quoted(version)));
    }
    package
}

fn debian_package(found: &Package) -> Value {
    // dpkg keeps no licences in a form that a machine can read.
    let mut package = package(&debian_id(found), &found.name, &found.version, NOTHING_SAID);
    let (source, source_version) = &found.source;
    package["sourceInfo"] = json!(format!("built from source package {source} {source_version}"));
    let purl = format!(
        "pkg:deb/{}/{}@{}?arch={}&distro={}&upstream={source}%40{}",
        found.vendor,
        quoted(&found.name),
        quoted(&found.version),
        found.architecture,
        found.distribution,
        quoted(source_version),
    );
    package["externalRefs"] = purl_reference(&purl);
    package
}

fn purl_reference(purl: &str) -> Value {
    json!([{
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": purl,
    }])
}

/// A version or name as a package URL wants it.
fn quoted(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B").replace(':', "%3A")
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

fn crate_id((name, version): &Id) -> String {
    plain(&format!("SPDXRef-crate-{name}-{version}"))
}

fn debian_id(package: &Package) -> String {
    plain(&format!("SPDXRef-deb-{}", package.name))
}

/// Identifiers hold letters, digits, dots and dashes alone.
fn plain(text: &str) -> String {
    text.replace(
        |c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-'),
        "-",
    )
}
