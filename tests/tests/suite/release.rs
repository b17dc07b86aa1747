//! A release: that it comes out equal, that its archives unpack and run, and that its manifest, SBOM and sums are true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use backup_tests::release::{Binaries, KREW_NAME, NOWHERE, Platform, Release, Written, version};
use backup_tests::scratch::Scratch;
use backup_tests::servers::{self, Program};
use backup_tests::{image, plugin};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::image::{document, entries};

/// A program that is linked dynamically and on every machine: most cases are about what is around it.
fn small() -> Release {
    let program = PathBuf::from("/bin/sh");
    of(program.clone(), program)
}

fn of(plugin: PathBuf, webhook: PathBuf) -> Release {
    Release {
        binaries: BTreeMap::from([(Platform::here(), binaries(plugin, webhook))]),
        archives: Vec::new(),
        download_url: Some("https://example.org/downloads/".to_owned()),
        created: Timestamp::UNIX_EPOCH,
    }
}

fn binaries(plugin: PathBuf, webhook: PathBuf) -> Binaries {
    BTreeMap::from([("kubectl-backup", plugin), ("backup-webhook", webhook)])
}

/// The other Linux, for which nothing is compiled here: what stands in for its programs has their header alone.
fn elsewhere(folder: &Scratch) -> Result<(Platform, PathBuf)> {
    let (triple, machine) = match Platform::here().arch.as_str() {
        "arm64" => ("x86_64-unknown-linux-gnu", 62),
        _ => ("aarch64-unknown-linux-gnu", 183),
    };
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(64, 0);
    // An executable of the one version that there is, with a header of 64 bytes and nothing behind it.
    for (at, byte) in [(16, 2), (18, machine), (20, 1), (52, 64)] {
        header[at] = byte;
    }
    let file = folder.join("stand-in");
    std::fs::write(&file, header)?;
    Ok((Platform::of_triple(triple)?, file))
}

/// A release with the real plugin. In place of the server there is a small program, which saves compressing it.
fn real() -> Result<&'static Path> {
    static REAL: OnceLock<Result<Scratch, String>> = OnceLock::new();
    let written = REAL.get_or_init(|| {
        let write = || {
            let folder = Scratch::new("release-")?;
            of(plugin::binary()?, PathBuf::from("/bin/sh")).write(folder.path())?;
            anyhow::Ok(folder)
        };
        write().map_err(|error| format!("{error:#}"))
    });
    match written {
        Ok(folder) => Ok(folder.path()),
        Err(error) => Err(anyhow!("{error}")),
    }
}

fn written(release: &Release) -> Result<(Scratch, Written)> {
    let folder = Scratch::new("release-")?;
    let written = release.write(folder.path())?;
    Ok((folder, written))
}

fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    std::fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, std::fs::read(entry.path())?))
        })
        .collect()
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} does not start"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

fn sum(bytes: &[u8]) -> String {
    let digits: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    digits.concat()
}

fn manifest(folder: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(folder.join(format!("{KREW_NAME}.yaml")))?;
    Ok(serde_saphyr::from_str(&text)?)
}

#[test]
fn two_releases_are_equal_byte_by_byte() -> Result<()> {
    let ((one, _), (other, _)) = (written(&small())?, written(&small())?);
    let (one, other) = (files(one.path())?, files(other.path())?);
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(other[name] == *bytes, "{name} differs");
    }
    Ok(())
}

#[test]
fn the_sums_are_those_of_all_files() -> Result<()> {
    let (folder, said) = written(&small())?;
    let mut check = Command::new("sha256sum");
    run(check
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(folder.path()))?;
    let mut there: BTreeSet<String> = files(folder.path())?.into_keys().collect();
    assert!(there.remove("SHA256SUMS"));
    assert_eq!(there, said.files.keys().cloned().collect());
    assert_eq!(there.len(), 5, "{there:?}");
    // And the check is one.
    std::fs::write(folder.join(&format!("{KREW_NAME}.yaml")), "")?;
    assert!(run(&mut check).is_err());
    Ok(())
}

#[test]
fn the_archive_unpacks_and_the_plugin_in_it_runs() -> Result<()> {
    let folder = Scratch::new("unpacked-")?;
    let archive = real()?.join(Platform::here().archive());
    let listed = run(Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "--file"])
        .arg(&archive)
        .env("TZ", "UTC"))?;
    let listed = String::from_utf8(listed.stdout)?;
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(
        names,
        ["LICENSE", "README.md", "backup-webhook", "kubectl-backup"]
    );
    for line in listed.lines() {
        assert!(
            line.contains(" 0/0 ") && line.contains(" 1970-01-01 00:00 "),
            "{line}"
        );
    }
    run(Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(&archive)
        .current_dir(folder.path()))?;
    let said = run(Command::new(folder.join("kubectl-backup")).args(["version", "--client"]))?;
    assert!(
        String::from_utf8(said.stdout)?.starts_with(&format!("kubectl-backup {},", version())),
        "the version is that of the release"
    );
    Ok(())
}

#[test]
fn krew_installs_the_plugin_under_a_name_that_its_guide_allows() -> Result<()> {
    let folder = real()?;
    let manifest = manifest(folder)?;
    let name = manifest["metadata"]["name"].as_str().context("no name")?;
    assert!(
        name.split('-')
            .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase())),
        "{name} is not in kebab case"
    );
    assert!(!name.starts_with("kube") && name.contains('-'), "{name}");
    assert_eq!(manifest["spec"]["version"], json!(format!("v{}", version())));

    // krew itself checks the manifest by its schema, and the archive by its sum.
    let root = Scratch::new("krew-")?;
    let archive = folder.join(Platform::here().archive());
    let krew = |archive: &Path| -> Result<Output> {
        run(Command::new(servers::binary(Program::Krew)?)
            .arg("install")
            .arg("--manifest")
            .arg(folder.join(format!("{KREW_NAME}.yaml")))
            .arg("--archive")
            .arg(archive)
            .env("KREW_ROOT", root.path())
            .env("KREW_NO_UPGRADE_CHECK", "1"))
    };
    let damaged = root.join("damaged.tar.gz");
    let mut bytes = std::fs::read(&archive)?;
    bytes.push(0);
    std::fs::write(&damaged, bytes)?;
    let refused = krew(&damaged).err().context("krew took a damaged archive")?;
    assert!(refused.to_string().contains("checksum"), "{refused}");
    krew(&archive)?;

    let linked = root
        .join("bin")
        .join(format!("kubectl-{}", name.replace('-', "_")));
    let path = std::env::join_paths([root.join("bin"), "/usr/bin".into(), "/bin".into()])?;
    let help = run(Command::new(servers::binary(Program::Kubectl)?)
        .args([name, "--help"])
        .env("HOME", root.path())
        .env("PATH", path))?;
    let help = String::from_utf8(help.stdout)?;
    assert!(help.contains(&format!("kubectl {name} COMMAND --help")), "{help}");
    // The link that the caveats name gives the usual name.
    std::os::unix::fs::symlink(
        linked.file_name().context("no name")?,
        root.join("bin/kubectl-backup"),
    )?;
    run(Command::new(root.join("bin/kubectl-backup")).args(["version", "--client"]))?;
    Ok(())
}

#[test]
fn the_manifest_lists_the_archives_that_are_there() -> Result<()> {
    let (folder, said) = written(&small())?;
    let spec = manifest(folder.path())?["spec"].clone();
    let platform = Platform::here();
    let name = platform.archive();
    assert_eq!(
        spec["platforms"],
        json!([{
            "selector": { "matchLabels": { "os": platform.os, "arch": platform.arch } },
            "uri": format!("https://example.org/downloads/{name}"),
            "sha256": sum(&std::fs::read(folder.join(&name))?),
            "bin": "kubectl-backup",
        }])
    );
    assert_eq!(said.platforms, [platform]);
    Ok(())
}

#[test]
fn archives_of_other_machines_are_taken_in() -> Result<()> {
    let elsewhere = Scratch::new("elsewhere-")?;
    let arm = Platform::of_triple("aarch64-unknown-linux-gnu")?;
    let file = elsewhere.join(&arm.archive());
    std::fs::write(&file, "an archive")?;
    let windows = Platform::of_triple("x86_64-pc-windows-msvc")?;
    let mut release = small();
    release.archives = vec![file.clone()];
    let program = elsewhere.join("stand-in.exe");
    let mut header = b"MZ".to_vec();
    header.resize(60, 0);
    header.extend(b"\x40\0\0\0PE\0\0\x64\x86");
    std::fs::write(&program, header)?;
    release
        .binaries
        .insert(windows.clone(), binaries(program.clone(), program));
    release.download_url = None;
    let (folder, said) = written(&release)?;
    assert!(said.platforms.contains(&arm) && said.platforms.contains(&windows));
    assert_eq!(said.files[&arm.archive()], sum(b"an archive"));
    let spec = manifest(folder.path())?["spec"].clone();
    let platforms = spec["platforms"].as_array().context("no platforms")?;
    assert_eq!(platforms.len(), 3);
    let find = |platform: &Platform| {
        platforms
            .iter()
            .find(|one| {
                one["selector"]["matchLabels"]["os"] == json!(platform.os)
                    && one["selector"]["matchLabels"]["arch"] == json!(platform.arch)
            })
            .context("not listed")
    };
    assert_eq!(find(&windows)?["bin"], "kubectl-backup.exe");
    assert_eq!(
        find(&arm)?["uri"],
        json!(format!("{NOWHERE}/{}", arm.archive())),
        "no address was given, and none is made up"
    );

    release.archives.push(file);
    let twice = release.write(folder.path()).err().context("twice the same")?;
    assert!(
        twice.to_string().contains("two archives for linux_arm64"),
        "{twice}"
    );
    release.archives = vec![elsewhere.join("kubectl-backup_v0.0.0_linux_arm64.tar.gz")];
    let other = release.write(folder.path()).err().context("another version")?;
    assert!(other.to_string().contains("no archive of version"), "{other}");
    Ok(())
}

#[test]
fn another_linux_has_an_archive_an_image_and_a_bill_of_its_own() -> Result<()> {
    let folder = Scratch::new("elsewhere-")?;
    let (other, program) = elsewhere(&folder)?;
    let here = Platform::here();
    let mut release = small();
    release
        .binaries
        .insert(other.clone(), binaries(program.clone(), program.clone()));
    let (folder, said) = written(&release)?;
    let both = [here.clone().min(other.clone()), here.clone().max(other.clone())];
    assert_eq!(
        (&said.platforms[..], &said.image_platforms[..]),
        (&both[..], &both[..])
    );
    assert_eq!(said.files.len(), 8, "{:?}", said.files);
    let spec = manifest(folder.path())?["spec"].clone();
    for (listed, platform) in spec["platforms"]
        .as_array()
        .context("no platforms")?
        .iter()
        .zip(&both)
    {
        assert_eq!(listed["selector"]["matchLabels"]["arch"], json!(platform.arch));
        assert_eq!(listed["sha256"], json!(said.files[&platform.archive()]));
    }

    let archive = entries(&std::fs::read(
        folder.join(&format!("kubectl-backup-image_v{}.oci.tar", version())),
    )?)?;
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().context("no digest")?;
        document(&archive, &format!("blobs/{}", digest.replace(':', "/")))
    };
    let images = blob(&document(&archive, "index.json")?["manifests"][0])?["manifests"].clone();
    let images = images.as_array().context("no images")?;
    assert_eq!(images.len(), 2);
    for (described, platform) in images.iter().zip(&both) {
        assert_eq!(
            described["platform"],
            json!({ "os": "linux", "architecture": platform.arch })
        );
        let config = blob(&blob(described)?["config"])?;
        assert_eq!(config["architecture"], json!(platform.arch));
        let docker = entries(&std::fs::read(folder.join(&format!(
            "kubectl-backup-image_v{}_{platform}.docker.tar",
            version()
        )))?)?;
        let docker_manifest = document(&docker, "manifest.json")?;
        let of_docker = document(
            &docker,
            docker_manifest[0]["Config"].as_str().context("no config")?,
        )?;
        assert_eq!(of_docker["architecture"], json!(platform.arch));
        assert_eq!(of_docker["rootfs"], config["rootfs"], "the same files in both");

        let bill: Value = serde_json::from_slice(&std::fs::read(
            folder.join(&format!("kubectl-backup_v{}_{platform}.spdx.json", version())),
        )?)?;
        let packages = bill["packages"].as_array().context("no packages")?;
        let digest = described["digest"]
            .as_str()
            .unwrap_or_default()
            .replace("sha256:", "");
        assert_eq!(packages[0]["checksums"][0]["checksumValue"], json!(digest));
        assert_eq!(packages[1]["name"], json!(platform.archive()));
    }

    // A binary of this machine under the other's name would be found out by its users.
    release
        .binaries
        .insert(other.clone(), binaries("/bin/sh".into(), program));
    let refused = release
        .write(folder.path())
        .err()
        .context("a wrong binary was taken")?;
    assert!(
        refused
            .to_string()
            .contains(&format!("/bin/sh is an executable for {here}, not for {other}")),
        "{refused}"
    );
    assert!(
        folder.join("SHA256SUMS").is_file(),
        "the former release is untouched"
    );
    Ok(())
}

#[test]
fn a_folder_is_emptied_of_a_former_release_and_of_nothing_else() -> Result<()> {
    let (folder, _) = written(&small())?;
    small().write(folder.path())?;
    std::fs::write(folder.join("notes.txt"), "mine")?;
    let refused = small()
        .write(folder.path())
        .err()
        .context("it was taken for released")?;
    assert!(refused.to_string().contains("notes.txt"), "{refused}");
    let left: Vec<String> = files(folder.path())?.into_keys().collect();
    assert_eq!(left, ["notes.txt"], "what is not whole has no sums");
    Ok(())
}

#[test]
fn the_bill_names_what_is_linked_and_what_debian_gave() -> Result<()> {
    let folder = real()?;
    let bill: Value = serde_json::from_slice(&std::fs::read(folder.join(format!(
        "kubectl-backup_v{}_{}.spdx.json",
        version(),
        Platform::here()
    )))?)?;
    assert_eq!(bill["spdxVersion"], "SPDX-2.3");
    assert_eq!(bill["creationInfo"]["created"], "1970-01-01T00:00:00Z");
    let packages = bill["packages"].as_array().context("no packages")?;
    let named = |name: &str| packages.iter().find(|package| package["name"] == name);
    for linked in [
        "kube",
        "rustls",
        "aws-lc-sys",
        "aws-sdk-s3",
        "tikv-jemalloc-sys",
        "x509-parser",
        "rust-std",
        "kubectl-backup",
        "backup-webhook",
        "libc6",
        "libgcc-s1",
        "ca-certificates",
    ] {
        assert!(named(linked).is_some(), "{linked} is missing");
    }
    // Of the tests, of the build, of the macros, and of features that are off.
    for other in [
        "proptest",
        "s3s",
        "s3s-fs",
        "backup-tests",
        "cc",
        "syn",
        "serde_derive",
        "ring",
        "dash",
    ] {
        assert!(named(other).is_none(), "{other} is not in the product");
    }
    let purl = |name: &str| {
        named(name)
            .and_then(|package| package["externalRefs"][0]["referenceLocator"].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    assert!(purl("kube").starts_with("pkg:cargo/kube@5."), "{}", purl("kube"));
    let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock"))?;
    let checksum = named("rustls").context("no rustls")?["checksums"][0]["checksumValue"].clone();
    assert!(lock.contains(checksum.as_str().context("no checksum")?));
    // A machine may have that of another architecture beside it.
    let libc6 = format!("libc6:{}", Platform::here().arch);
    let shown = run(Command::new("dpkg-query").args(["--show", "--showformat", "${Version}", &libc6]))?;
    assert_eq!(
        named("libc6").context("no libc6")?["versionInfo"],
        json!(String::from_utf8(shown.stdout)?)
    );
    assert!(purl("libc6").starts_with("pkg:deb/"), "{}", purl("libc6"));

    let ids: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["SPDXID"].as_str())
        .collect();
    assert_eq!(ids.len(), packages.len(), "identifiers are unique");
    let relationships = bill["relationships"].as_array().context("no relationships")?;
    let reached: BTreeSet<&str> = relationships
        .iter()
        .filter_map(|one| one["relatedSpdxElement"].as_str())
        .collect();
    assert_eq!(
        reached, ids,
        "every package is reached from another, and none is missing"
    );
    let archive = std::fs::read(folder.join(Platform::here().archive()))?;
    let package = named(&Platform::here().archive()).context("no archive")?;
    assert_eq!(package["checksums"][0]["checksumValue"], json!(sum(&archive)));
    Ok(())
}

#[test]
fn the_oci_archive_is_a_layout_with_a_compressed_layer() -> Result<()> {
    let (folder, said) = written(&small())?;
    let name = format!("kubectl-backup-image_v{}.oci.tar", version());
    let archive = entries(&std::fs::read(folder.join(&name))?)?;
    let names: BTreeSet<&str> = archive.keys().map(String::as_str).collect();
    assert!(!names.contains("manifest.json"), "that is docker's");
    assert_eq!(
        document(&archive, "oci-layout")?,
        json!({ "imageLayoutVersion": "1.0.0" })
    );
    let mut expected =
        BTreeSet::from(["blobs/", "blobs/sha256/", "index.json", "oci-layout"].map(str::to_owned));
    let mut blob = |descriptor: &Value| -> Result<Vec<u8>> {
        let digest = descriptor["digest"].as_str().context("no digest")?;
        let path = format!("blobs/{}", digest.replace(':', "/"));
        let (_, bytes) = archive.get(&path).with_context(|| format!("no {path}"))?;
        assert_eq!(digest, format!("sha256:{}", sum(bytes)));
        assert_eq!(descriptor["size"], json!(bytes.len()));
        expected.insert(path);
        Ok(bytes.clone())
    };
    let index = document(&archive, "index.json")?;
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    let described = &index["manifests"][0];
    assert_eq!(described["digest"], json!(said.image_digest));
    assert_eq!(
        described["annotations"]["io.containerd.image.name"],
        json!(image::suite_name()?)
    );
    let together: Value = serde_json::from_slice(&blob(described)?)?;
    assert_eq!(together["manifests"].as_array().map(Vec::len), Some(1));
    let manifest: Value = serde_json::from_slice(&blob(&together["manifests"][0])?)?;
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])?)?;
    let layer = blob(&manifest["layers"][0])?;
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    let mut plain = Vec::new();
    std::io::Read::read_to_end(
        &mut flate2::read::MultiGzDecoder::new(layer.as_slice()),
        &mut plain,
    )?;
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([format!("sha256:{}", sum(&plain))])
    );
    assert!(entries(&plain)?.contains_key("usr/local/bin/kubectl-backup"));
    assert_eq!(
        names,
        expected.iter().map(String::as_str).collect(),
        "and nothing else"
    );
    Ok(())
}
