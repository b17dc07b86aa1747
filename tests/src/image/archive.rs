//! The bytes of an image: layer, configuration, manifest, and the archive around them.
//!
//! Also what makes any archive come out equal: entries in the order of their names, of root, without a time; gzip without
//! a time or a file name. Callers may rely on equal entries giving equal bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Digests, Image};

/// One thing in a layer.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Directory(u32),
    File(u32, Vec<u8>),
    Link(String),
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The documents of an image and its layer.
struct Parts {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

/// Writes the archive that is one for docker and one for the OCI. Its layer is not compressed: docker wants it so.
pub(super) fn write(image: &Image, file: &Path) -> Result<()> {
    let layer = tar(&image.entries)?;
    let diff = digest(&layer);
    let parts = Parts::new(image, layer, "application/vnd.oci.image.layer.v1.tar", &diff);
    let docker =
        json!([{ "Config": blob(&parts.config), "RepoTags": image.names, "Layers": [blob(&parts.layer)] }]);
    let index = named(&image.names, &descriptor(MANIFEST, &parts.manifest));
    write_layout(
        file,
        vec![&parts.config, &parts.manifest, &parts.layer],
        &index,
        Some(docker.to_string().as_bytes()),
    )
}

/// Writes an OCI layout and nothing else, its layers compressed as registries want them, so that the images keep their
/// digests wherever they are pushed to. The layout names one thing, an index of the images: two manifests side by side
/// under one name would be two answers to what the name means, and skopeo refuses that.
pub(super) fn write_oci(images: &[Image], file: &Path) -> Result<Digests> {
    let mut all = Vec::new();
    for image in images {
        let layer = tar(&image.entries)?;
        let diff = digest(&layer);
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        all.push(Parts::new(image, gzip(&layer)?, media_type, &diff));
    }
    let manifests = images.iter().zip(&all).map(|(image, parts)| {
        let mut manifest = descriptor(MANIFEST, &parts.manifest);
        manifest["platform"] = json!({ "architecture": image.architecture, "os": "linux" });
        manifest
    });
    let together = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests.collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    let names = images.first().map(|image| image.names.as_slice());
    let index = named(names.unwrap_or_default(), &descriptor(INDEX, &together));
    let mut blobs = vec![&together];
    for parts in &all {
        blobs.extend([&parts.config, &parts.manifest, &parts.layer]);
    }
    write_layout(file, blobs, &index, None)?;
    Ok(Digests {
        index: digest(&together),
        images: all.iter().map(|parts| digest(&parts.manifest)).collect(),
    })
}

impl Parts {
    fn new(image: &Image, layer: Vec<u8>, media_type: &str, diff: &str) -> Self {
        let config = json!({
            "architecture": image.architecture,
            "os": "linux",
            // Images without a time are from the year 1; this is what builders write who want equal bytes.
            "created": "1970-01-01T00:00:00Z",
            "config": image.config,
            "rootfs": { "type": "layers", "diff_ids": [diff] },
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor(media_type, &layer)],
        })
        .to_string()
        .into_bytes();
        Self {
            layer,
            config,
            manifest,
        }
    }
}

/// The `index.json` of a layout that holds one thing under these names.
fn named(names: &[String], what: &Value) -> Vec<u8> {
    let named = |name: &String| {
        let mut descriptor = what.clone();
        let tag = name.rsplit(':').next().unwrap_or_default();
        descriptor["annotations"] =
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
        descriptor
    };
    json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": names.iter().map(named).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes()
}

fn write_layout(file: &Path, mut blobs: Vec<&Vec<u8>>, index: &[u8], docker: Option<&[u8]>) -> Result<()> {
    let output = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mut archive = tar::Builder::new(BufWriter::new(output));
    blobs.sort_by_cached_key(|bytes| blob(bytes));
    // Images may share a blob, which is there once.
    blobs.dedup();
    append(&mut archive, "blobs", &Entry::Directory(0o755))?;
    append(&mut archive, "blobs/sha256", &Entry::Directory(0o755))?;
    for bytes in blobs {
        append_file(&mut archive, &blob(bytes), 0o644, bytes)?;
    }
    append_file(&mut archive, "index.json", 0o644, index)?;
    if let Some(docker) = docker {
        append_file(&mut archive, "manifest.json", 0o644, docker)?;
    }
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
    append_file(&mut archive, "oci-layout", 0o644, version)?;
    archive.into_inner()?.flush()?;
    Ok(())
}

/// The entries as a tar archive.
pub(crate) fn tar(entries: &BTreeMap<String, Entry>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        append(&mut archive, path, entry)?;
    }
    Ok(archive.into_inner()?)
}

/// The bytes compressed.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, entry: &Entry) -> Result<()> {
    match entry {
        Entry::File(mode, bytes) => append_file(archive, path, *mode, bytes)?,
        Entry::Directory(mode) => {
            let mut header = header(*mode, tar::EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, format!("{path}/"), std::io::empty())?;
        }
        Entry::Link(target) => {
            let mut header = header(0o777, tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

fn append_file(archive: &mut tar::Builder<impl Write>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = header(mode, tar::EntryType::Regular);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn header(mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// The architecture as Go names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", hexadecimal(bytes))
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(bytes))
}

/// The SHA-256 of the bytes in hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
