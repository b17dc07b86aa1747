//! The bytes of an image: layer, configuration, manifest, and the archive around them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Image;

/// One thing in a layer.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Directory(u32),
    File(u32, Vec<u8>),
    Link(String),
}

/// Writes the archive of an image.
pub(super) fn write(image: &Image, file: &Path) -> Result<()> {
    let layer = layer(image)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        // Images without a time are from the year 1; this is what builders write who want equal bytes.
        "created": "1970-01-01T00:00:00Z",
        "config": image.config,
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string()
    .into_bytes();
    let named = |name: &String| {
        let mut descriptor = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        let tag = name.rsplit(':').next().unwrap_or_default();
        descriptor["annotations"] =
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
        descriptor
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": image.names.iter().map(named).collect::<Vec<_>>(),
    });
    let docker = json!([{ "Config": blob(&config), "RepoTags": image.names, "Layers": [blob(&layer)] }]);

    let output = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mut archive = tar::Builder::new(BufWriter::new(output));
    let mut blobs = [&config, &manifest, &layer];
    blobs.sort_by_key(|bytes| blob(bytes));
    append(&mut archive, "blobs", &Entry::Directory(0o755))?;
    append(&mut archive, "blobs/sha256", &Entry::Directory(0o755))?;
    for bytes in blobs {
        append_file(&mut archive, &blob(bytes), 0o644, bytes)?;
    }
    append_file(&mut archive, "index.json", 0o644, index.to_string().as_bytes())?;
    append_file(
        &mut archive,
        "manifest.json",
        0o644,
        docker.to_string().as_bytes(),
    )?;
    append_file(
        &mut archive,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    archive.into_inner()?.flush()?;
    Ok(())
}

fn layer(image: &Image) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in &image.entries {
        append(&mut archive, path, entry)?;
    }
    Ok(archive.into_inner()?)
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
fn architecture() -> &'static str {
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

fn hexadecimal(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
