//! The rules of the house: what may be linked, which way dependencies point, how files begin and how long they are.
//!
//! What is linked is asked of `cargo tree`, since `cargo metadata` and `Cargo.lock` also count optional dependencies that
//! are switched off. Every exception stands in a list here with its reason, and an exception that nothing needs any more
//! fails as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Crates that nothing may link, and why.
const BANNED: [(&str, &str); 12] = [
    ("ring", "aws-lc-rs is the one crypto provider"),
    ("openssl", "aws-lc-rs is the one crypto provider"),
    ("openssl-sys", "aws-lc-rs is the one crypto provider"),
    ("native-tls", "rustls does TLS"),
    ("reqwest", "one HTTP stack is enough: hyper"),
    ("serde_yaml", "no longer maintained; serde-saphyr"),
    ("serde_yml", "unsound; serde-saphyr"),
    (
        "tokio-tar",
        "reads other entries than it says (CVE-2025-62518); tar",
    ),
    ("async-std", "tokio is the one runtime"),
    (
        "rustls-pemfile",
        "no longer maintained; rustls-pki-types reads PEM",
    ),
    ("backoff", "no longer maintained"),
    ("instant", "no longer maintained"),
];

/// Crates that may be linked through these parents only.
const ONLY_THROUGH: [(&str, &[&str]); 1] = [("chrono", &["s3s", "s3s-fs"])];

/// Crates of which two versions are linked, and why that is borne.
const DOUBLED: [(&str, &str); 16] = [
    ("base64", "tower-http, under kube, is one version behind"),
    ("cipher", "as digest; rustic_core's AES is one release behind"),
    ("cpufeatures", "as cipher"),
    ("crypto-common", "as digest"),
    (
        "darling",
        "macros under rustic_core and kube-derive; only build time is lost",
    ),
    ("darling_core", "as darling"),
    ("darling_macro", "as darling"),
    (
        "digest",
        "crc-fast, under the S3 client, waits with the RustCrypto release that sha2 0.11 belongs to",
    ),
    ("getrandom", "ahash, under kube-runtime, is one version behind"),
    ("hashbrown", "kube-runtime is one version behind"),
    ("inout", "as cipher"),
    (
        "nom",
        "the tests' S3 server is on 8, x509-parser, under the webhook, on 7; the product links one",
    ),
    (
        "path-dedot",
        "the tests' S3 server is one version behind; the product links one",
    ),
    ("r-efi", "as getrandom; linked on no machine of ours"),
    (
        "syn",
        "macros are moving to syn 3 one by one; only build time is lost",
    ),
    ("synstructure", "as syn"),
];

const LICENCES: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    // Copyleft of single files: option-ext, under rustic_core's dirs, used unchanged.
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Which package of the workspace may depend on which.
const ARROWS: [(&str, &[&str]); 7] = [
    ("velero-model", &[]),
    ("backup-plan", &["velero-model"]),
    ("backup-engine", &["velero-model", "backup-plan"]),
    // In the place of a crate that rustic_core links, and of nobody else.
    ("rustic_cdc", &[]),
    (
        "kubectl-backup",
        &["velero-model", "backup-plan", "backup-engine"],
    ),
    ("backup-webhook", &["velero-model", "backup-plan"]),
    (
        "backup-tests",
        &["velero-model", "backup-plan", "backup-engine", "backup-webhook"],
    ),
];

/// Everything that may lie in the root.
const ROOT: [&str; 16] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "manifests",
    "plugin",
    "tests",
    "webhook",
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".deny.toml",
    ".gitignore",
    ".github",
    ".justfile",
    ".rustfmt.toml",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--locked")
        .current_dir(root())
        .output()?;
    ensure!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// `cargo tree` over these packages as lines of `name vVERSION[ (...)]|licence`.
fn tree(packages: &[&str], edges: &str) -> Result<BTreeSet<String>> {
    let mut arguments = vec![
        "tree", "--target", "all", "--prefix", "none", "--format", "{p}|{l}", "-e", edges,
    ];
    if packages.is_empty() {
        arguments.push("--workspace");
    }
    for package in packages {
        arguments.extend(["-p", package]);
    }
    let printed = cargo(&arguments)?;
    Ok(printed
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect())
}

const ALL_EDGES: &str = "normal,build,dev";
const LINKED_EDGES: &str = "normal,build";

fn name(line: &str) -> &str {
    line.split(' ').next().unwrap_or(line)
}

fn names(lines: &BTreeSet<String>) -> BTreeSet<&str> {
    lines.iter().map(|line| name(line)).collect()
}

fn doubled(lines: &BTreeSet<String>) -> BTreeSet<&str> {
    let versions = lines.iter().filter_map(|line| {
        let mut words = line.split([' ', '|']);
        Some((words.next()?, words.next()?))
    });
    let mut by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, version) in versions {
        by_name.entry(name).or_default().insert(version);
    }
    by_name
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn banned_crates_are_not_linked() -> Result<()> {
    let lines = tree(&[], ALL_EDGES)?;
    let linked = names(&lines);
    ensure!(
        linked.contains("aws-lc-rs"),
        "the list of linked crates is not one: {linked:?}"
    );
    for (banned, why) in BANNED {
        assert!(
            !linked.contains(banned),
            "{banned} is linked: {why}; see cargo tree --target all -i {banned}"
        );
    }
    Ok(())
}

#[test]
fn some_crates_come_through_known_parents_only() -> Result<()> {
    for (crate_name, parents) in ONLY_THROUGH {
        let printed = cargo(&[
            "tree",
            "--workspace",
            "--target",
            "all",
            "-e",
            ALL_EDGES,
            "-i",
            crate_name,
            "--depth",
            "1",
            "--prefix",
            "depth",
        ])?;
        let found: BTreeSet<&str> = printed
            .lines()
            .filter_map(|line| line.strip_prefix('1'))
            .map(name)
            .collect();
        assert_eq!(
            found,
            parents.iter().copied().collect(),
            "parents of {crate_name}"
        );
        let product = tree(&["kubectl-backup"], LINKED_EDGES)?;
        assert!(
            !names(&product).contains(crate_name),
            "the product links {crate_name}"
        );
    }
    Ok(())
}

#[test]
fn the_pure_crates_link_no_runtime_and_no_client() -> Result<()> {
    let lines = tree(&["velero-model", "backup-plan"], LINKED_EDGES)?;
    // The types of API objects and the derive that makes a CRD of ours: neither knows a client.
    let types_only = ["kube-core", "kube-derive", "k8s-openapi", "k8s-openapi-derive"];
    let impure = |name: &&str| {
        if types_only.contains(name) {
            return false;
        }
        let families = [
            "tokio", "kube", "k8s-", "aws-", "hyper", "rustls", "async-", "futures",
        ];
        families.iter().any(|family| name.starts_with(family)) || *name == "backup-engine"
    };
    let found: Vec<&str> = names(&lines).into_iter().filter(impure).collect();
    assert!(found.is_empty(), "{found:?}");
    ensure!(
        names(&lines).contains("serde_json"),
        "the list of linked crates is not one"
    );
    Ok(())
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])?)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    assert_eq!(packages.len(), ARROWS.len(), "a package has no line in ARROWS");
    for package in packages {
        let package_name = package["name"].as_str().context("no name")?;
        let (_, allowed) = ARROWS
            .iter()
            .find(|(known, _)| *known == package_name)
            .with_context(|| package_name.to_owned())?;
        let dependencies = package["dependencies"].as_array().context("no dependencies")?;
        let inside = dependencies
            .iter()
            .filter(|dependency| dependency["path"].is_string());
        for dependency in inside.filter_map(|dependency| dependency["name"].as_str()) {
            assert!(
                allowed.contains(&dependency),
                "{package_name} depends on {dependency}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_crate_is_linked_twice_only_for_a_reason() -> Result<()> {
    let lines = tree(&[], ALL_EDGES)?;
    assert_eq!(
        doubled(&lines),
        DOUBLED.iter().map(|(name, _)| *name).collect(),
        "the list is DOUBLED"
    );
    Ok(())
}

#[test]
fn licences_are_permissive() -> Result<()> {
    for line in tree(&[], ALL_EDGES)? {
        let (package, licence) = line.rsplit_once('|').with_context(|| line.clone())?;
        assert!(is_allowed(licence), "{package} has licence {licence:?}");
    }
    Ok(())
}

#[test]
fn everything_comes_from_one_registry() -> Result<()> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    let sources: BTreeSet<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .map(|source| source.trim_matches('"'))
        .collect();
    assert_eq!(sources, BTreeSet::from([CRATES_IO]));
    Ok(())
}

/// An SPDX expression, or its old form with slashes: `A OR (B AND C)`, where only one side of an `OR` must be allowed.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) && rest.is_empty()
}

fn any_of(words: &mut &[&str]) -> bool {
    let mut allowed = all_of(words);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        // Both sides must be read, whatever the first one was.
        allowed |= all_of(words);
    }
    allowed
}

fn all_of(words: &mut &[&str]) -> bool {
    let mut allowed = one(words);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut &[&str]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let allowed = any_of(words);
            let closed = words.first() == Some(&")");
            *words = words.get(1..).unwrap_or_default();
            allowed && closed
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            LICENCES.contains(&format!("{licence} WITH {exception}").as_str())
        }
        [licence, rest @ ..] => {
            *words = rest;
            LICENCES.contains(licence)
        }
        [] => false,
    }
}

#[test]
fn licence_expressions_are_understood() {
    for (expression, allowed) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("Unlicense/MIT", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
        ("GPL-2.0 WITH Classpath-exception-2.0", false),
        ("ISC AND (Apache-2.0 OR ISC) AND (GPL-3.0 OR MIT)", true),
        ("", false),
        ("(MIT", false),
    ] {
        assert_eq!(is_allowed(expression), allowed, "{expression}");
    }
}

/// Every Rust source of ours, the fuzz targets included.
fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["plugin", "webhook", "tests"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    folders.retain(|folder| folder.is_dir());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    ensure!(found.len() > 100, "only {} sources were found", found.len());
    Ok(found)
}

#[test]
fn every_file_opens_with_a_paragraph_and_is_short() -> Result<()> {
    let mut faults = Vec::new();
    for file in sources()? {
        let text = std::fs::read_to_string(&file)?;
        let shown = file.strip_prefix(root()).unwrap_or(&file).display();
        if !text.starts_with("//! ") {
            faults.push(format!(
                "{shown} does not begin with a paragraph on what it is for (//!)"
            ));
        }
        let lines = text.lines().count();
        if lines > 600 {
            faults.push(format!("{shown} has {lines} lines, more than 600"));
        }
        let vague = [
            "utils.rs",
            "helpers.rs",
            "common.rs",
            "types.rs",
            "manager.rs",
            "misc.rs",
        ];
        if vague.iter().any(|name| file.ends_with(name)) {
            faults.push(format!("{shown} has a name that says nothing"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn the_root_holds_what_belongs_there() -> Result<()> {
    for entry in std::fs::read_dir(root())? {
        let name = entry?
            .file_name()
            .into_string()
            .map_err(|name| anyhow::anyhow!("{name:?}"))?;
        let known = ROOT.contains(&name.as_str()) || ["target", ".git"].contains(&name.as_str());
        assert!(known, "{name} does not belong in the root");
    }
    Ok(())
}
