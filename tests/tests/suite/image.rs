//! The image of the suite: what is in it, and that it comes out equal.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use backup_tests::image::{self, Image};
use backup_tests::scratch::Scratch;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A program that is linked dynamically and on every machine: what matters here is the archive.
fn small_suite() -> Result<Image> {
    let program = PathBuf::from("/bin/sh");
    image::suite(&BTreeMap::from([
        ("kubectl-backup", program.clone()),
        ("backup-webhook", program),
    ]))
}

/// What is in an archive, by path.
pub(crate) fn entries(archive: &[u8]) -> Result<BTreeMap<String, (tar::Header, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let path = entry.path()?.display().to_string();
        let double = found.insert(path.clone(), (entry.header().clone(), bytes));
        assert!(double.is_none(), "{path} is there twice");
    }
    Ok(found)
}

/// A JSON document in an archive.
pub(crate) fn document(entries: &BTreeMap<String, (tar::Header, Vec<u8>)>, path: &str) -> Result<Value> {
    let (_, bytes) = entries.get(path).with_context(|| format!("no {path}"))?;
    Ok(serde_json::from_slice(bytes)?)
}

fn written(image: &Image) -> Result<Vec<u8>> {
    let folder = Scratch::new("image-")?;
    let file = folder.join("image.tar");
    image.write_archive(&file)?;
    Ok(std::fs::read(&file)?)
}

#[test]
fn two_builds_are_equal_byte_by_byte() -> Result<()> {
    assert!(written(&small_suite()?)? == written(&small_suite()?)?);
    Ok(())
}

#[test]
fn the_archive_is_one_for_docker_and_one_for_the_oci() -> Result<()> {
    let archive = entries(&written(&small_suite()?)?)?;
    for (path, (_, bytes)) in &archive {
        if let Some(digest) = path
            .strip_prefix("blobs/sha256/")
            .filter(|digest| !digest.is_empty())
        {
            let digest_of: Vec<String> = Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let found = digest_of.concat();
            assert_eq!(digest, found, "a blob is named after what it holds");
        }
    }
    assert_eq!(
        document(&archive, "oci-layout")?,
        json!({ "imageLayoutVersion": "1.0.0" })
    );
    let docker = document(&archive, "manifest.json")?;
    assert_eq!(docker[0]["RepoTags"], json!([image::suite_name()?]));
    let index = document(&archive, "index.json")?;
    let of = |descriptor: &Value| {
        format!(
            "blobs/{}",
            descriptor["digest"]
                .as_str()
                .unwrap_or_default()
                .replace(':', "/")
        )
    };
    let manifest = document(&archive, &of(&index["manifests"][0]))?;
    assert_eq!(docker[0]["Config"], json!(of(&manifest["config"])));
    assert_eq!(docker[0]["Layers"], json!([of(&manifest["layers"][0])]));
    let config = document(&archive, &of(&manifest["config"]))?;
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([manifest["layers"][0]["digest"]])
    );
    Ok(())
}

#[test]
fn the_image_runs_as_nobody_and_has_no_shell() -> Result<()> {
    let archive = entries(&written(&small_suite()?)?)?;
    let docker = document(&archive, "manifest.json")?;
    let config = document(&archive, docker[0]["Config"].as_str().context("no config")?)?;
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(
        config["config"]["Entrypoint"],
        json!(["/usr/local/bin/kubectl-backup"])
    );
    let (_, layer) = archive
        .get(docker[0]["Layers"][0].as_str().context("no layer")?)
        .context("no layer")?;
    let layer = entries(layer)?;
    let names: Vec<&str> = layer.keys().map(String::as_str).collect();
    for wanted in [
        "usr/local/bin/kubectl-backup",
        "usr/local/bin/backup-webhook",
        "etc/ssl/certs/ca-certificates.crt",
        "etc/passwd",
        "etc/nsswitch.conf",
        "tmp/",
    ] {
        assert!(names.contains(&wanted), "{wanted} is missing: {names:?}");
    }
    assert!(names.iter().any(|name| name.contains("libc.so")), "{names:?}");
    let programs = |name: &&&str| name.contains("bin/") && !name.ends_with('/');
    assert_eq!(
        names.iter().filter(programs).count(),
        2,
        "two programs and no other: {names:?}"
    );
    for (path, (header, _)) in &layer {
        assert_eq!(
            (header.uid()?, header.gid()?, header.mtime()?),
            (0, 0, 0),
            "{path}"
        );
        let mode = header.mode()?;
        assert_eq!(mode & 0o6000, 0, "{path} is set-uid");
        assert!(
            mode & 0o022 == 0 || path == "tmp/",
            "{path} can be written to by others"
        );
    }
    Ok(())
}

#[test]
fn the_authorities_are_those_of_debian_and_not_of_the_building_machine() -> Result<()> {
    let archive = entries(&written(&small_suite()?)?)?;
    let docker = document(&archive, "manifest.json")?;
    let (_, layer) = archive
        .get(docker[0]["Layers"][0].as_str().context("no layer")?)
        .context("no layer")?;
    let layer = entries(layer)?;
    let (_, bundle) = layer
        .get("etc/ssl/certs/ca-certificates.crt")
        .context("no bundle")?;
    let bundle = std::str::from_utf8(bundle)?;
    let brought = std::fs::read_dir("/usr/share/ca-certificates/mozilla")?.count();
    assert_eq!(bundle.matches("-----BEGIN CERTIFICATE-----\n").count(), brought);
    Ok(())
}

#[test]
fn the_recipe_lies_with_the_manifests() {
    assert!(image::recipe_file().is_file());
    assert!(image::recipe_file().ends_with(Path::new("manifests/image/image.yaml")));
}
