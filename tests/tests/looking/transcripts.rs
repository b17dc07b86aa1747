//! What the main commands print, as stored files: a change of behaviour is seen as a change of text.
//!
//! Each file under `tests/transcripts` holds one or more commands with exit code, stdout and stderr. What differs from
//! run to run is replaced by a word in angle brackets, and columns are three blanks apart whatever their widths.
//! `UPDATE_TRANSCRIPTS=1 cargo test -p backup-tests --test looking transcripts` writes the files again.

mod guarding;
mod scheduling;

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use backup_tests::cluster::{Cluster, base64};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::json;

use crate::site::{PASSWORD, config_map};

/// The namespace of the transcripts; no other case has one of this name.
const NAMESPACE: &str = "bakery";
/// What it is restored into.
const SECOND_NAMESPACE: &str = "cafe";

/// Replaces what differs from run to run.
pub(crate) struct Redaction {
    /// Texts of this run and what stands for them, longest first.
    pub(crate) texts: Vec<(String, &'static str)>,
}

impl Redaction {
    fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (found, word) in &self.texts {
            text = text.replace(found, word);
        }
        text.lines().map(|line| redact_line(line) + "\n").collect()
    }
}

fn redact_line(line: &str) -> String {
    let start = line.len() - line.trim_start().len();
    let (indent, rest) = line.split_at(start);
    let mut redacted = String::from(indent);
    let mut word = String::new();
    let mut blanks = 0;
    for letter in rest.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() || "-.:+".contains(letter) {
            // Runs of blanks are columns, whose widths depend on what stood there.
            redacted.push_str(&" ".repeat(if blanks > 1 { 3 } else { blanks }));
            blanks = 0;
            word.push(letter);
            continue;
        }
        redacted.push_str(&redact_word(&word));
        word.clear();
        if letter == ' ' {
            blanks += 1;
        } else if letter != '\n' {
            redacted.push_str(&" ".repeat(if blanks > 1 { 3 } else { blanks }));
            blanks = 0;
            redacted.push(letter);
        }
    }
    // An uid that reads as a number is quoted.
    redacted = redacted.replace("\"<uid>\"", "<uid>");
    match redacted.split_once("resourceVersion: \"") {
        Some((before, _)) => format!("{before}resourceVersion: \"<number>\""),
        None => redacted,
    }
}

fn redact_word(word: &str) -> String {
    let (word, colon) = match word.strip_suffix(':') {
        Some(word) => (word, ":"),
        None => (word, ""),
    };
    let is_hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = word.split('-').collect();
    let is_uid = parts.len() == 5 && parts[0].len() == 8 && parts[4].len() == 12 && parts.iter().all(is_hex);
    let number =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let unit = |units: &[&str]| {
        units
            .iter()
            .any(|unit| word.strip_suffix(unit).is_some_and(number))
    };
    let replaced = if is_uid {
        "<uid>"
    } else if word.len() >= 20 && word.as_bytes()[10] == b'T' && word.ends_with('Z') {
        "<time>"
    } else if unit(&["KiB", "MiB", "B"]) {
        "<size>"
    } else if word != "0s" && unit(&["s"]) {
        "<duration>"
    } else if unit(&["d", "y"]) || is_years_and_days(word) {
        "<days>"
    } else if word.len() == 12 && is_hex(&word) {
        "<digest>"
    } else if word.len() == 64 && is_hex(&word) {
        "<password>"
    } else {
        word
    };
    format!("{replaced}{colon}")
}

/// `5y96d`.
fn is_years_and_days(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    word.strip_suffix('d')
        .and_then(|word| word.split_once('y'))
        .is_some_and(|(years, days)| digits(years) && digits(days))
}

/// Commands whose output goes into one file.
pub(crate) struct Script<'s> {
    pub(crate) plugin: &'s Plugin,
    pub(crate) redaction: &'s Redaction,
}

impl Script<'_> {
    pub(crate) fn transcript(&self, name: &str, commands: &[&[&str]]) -> Result<()> {
        let mut text = String::new();
        for words in commands {
            let ran = self.plugin.run(words.iter().copied())?;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "$ kubectl backup {}", shown(words, self.redaction));
            let _ = writeln!(text, "exit code {}", ran.code);
            for (heading, output) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
                if !output.is_empty() {
                    let _ = write!(text, "--- {heading}\n{}", self.redaction.apply(output));
                }
            }
            text.push('\n');
        }
        compare(name, &text)
    }
}

fn shown(words: &[&str], redaction: &Redaction) -> String {
    redaction.apply(&words.join(" ")).trim_end().to_owned()
}

fn compare(name: &str, text: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("transcripts/{name}.txt"));
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some_and(|value| !value.is_empty()) {
        return Ok(std::fs::write(&path, text)?);
    }
    let stored = std::fs::read_to_string(&path).with_context(|| format!("{name}: {}", path.display()))?;
    let differing = || {
        let mut lines = stored.lines().zip(text.lines()).enumerate();
        let first = lines.find(|(_, (stored, now))| stored != now);
        first.map_or_else(
            || "one is longer".to_owned(),
            |(number, (stored, now))| format!("line {}:\n  {stored}\nbecame\n  {now}", number + 1),
        )
    };
    assert!(
        stored == text,
        "transcripts/{name}.txt: {}\nUPDATE_TRANSCRIPTS=1 stores what is printed now:\n{text}",
        differing()
    );
    Ok(())
}

/// Objects whose names and labels never change.
fn furnish(cluster: &Cluster) -> Result<()> {
    // What the controllers put into a namespace must not come in the middle of a command.
    for namespace in [NAMESPACE, SECOND_NAMESPACE] {
        cluster
            .create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))?;
        cluster.wait_until("the namespace to be furnished", |cluster| {
            let path = |rest| format!("/api/v1/namespaces/{namespace}/{rest}");
            let root = cluster.get(&path("configmaps/kube-root-ca.crt"))?;
            Ok(root.is_some() && cluster.get(&path("serviceaccounts/default"))?.is_some())
        })?;
    }
    cluster.create(config_map(NAMESPACE, "prices", "shop"))?;
    cluster.create(config_map(NAMESPACE, "recipes", "oven"))?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": "login", "namespace": NAMESPACE, "labels": { "app": "shop" } },
        "data": { "password": base64(PASSWORD.as_bytes()) }
    }))?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "flour", "namespace": NAMESPACE, "labels": { "app": "oven" } },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
            "resources": { "requests": { "storage": "1Gi" } }
        }
    }))?;
    Ok(())
}

#[test]
fn commands_print_what_is_stored() -> Result<()> {
    let cluster = Cluster::start()?;
    furnish(&cluster)?;
    let (store, second) = (Store::folder()?, Store::folder()?);
    let plugin = Plugin::new(&cluster, &store)?;
    let version = plugin.json(["version"])?;
    let of_version = |field: &str| version[field].as_str().map(str::to_owned).context("a version");
    let path = |path: &Path| path.display().to_string();
    let server = of_version("serverVersion")?;
    let minor = server.split('.').nth(1).context("a minor version")?;
    let redaction = Redaction {
        texts: vec![
            (path(&store.path()), "/<location>"),
            (path(&second.path()), "/<second>"),
            (path(plugin.home()), "/<home>"),
            (
                format!("k8s-minor-version={minor}"),
                "k8s-minor-version=<cluster minor version>",
            ),
            (server.clone(), "<cluster version>"),
            (of_version("clientVersion")?, "<version>"),
        ],
    };
    let script = Script {
        plugin: &plugin,
        redaction: &redaction,
    };
    let scope = ["-n", NAMESPACE, "--exclude-resources", "events"];
    let create = |name| [&["create", name][..], &scope].concat();
    let dry_run = [&["create", "nightly", "--dry-run", "-l", "app=shop"][..], &scope].concat();
    // Some list all kinds that the cluster serves, and each version serves others.
    let lists_kinds = minor == "34";
    if lists_kinds {
        script.transcript("create-dry-run", &[&dry_run])?;
    }
    script.transcript("create", &[&create("nightly"), &create("nightly")])?;
    script.transcript("list", &[&["list"], &["list", "-o", "name"], &["list", "gone"]])?;
    if lists_kinds {
        script.transcript("describe", &[&["describe", "nightly", "--details"]])?;
    }
    let contents: [&[&str]; 3] = [
        &["contents", "nightly"],
        &["contents", "nightly", "--kinds"],
        &["contents", "nightly", "cm", "-l", "app=oven", "-o", "wide"],
    ];
    script.transcript("contents", &contents)?;
    script.transcript(
        "cat",
        &[
            &["cat", "nightly", "secret/login"],
            &["cat", "nightly", "cm/nothing"],
        ],
    )?;
    script.transcript("find", &[&["find", "cm/prices"], &["find", "cm/nothing"]])?;
    let second = second.location_url();
    script.transcript(
        "copy",
        &[&["copy", "nightly", "--to", &second], &["download", "nightly"]],
    )?;

    cluster.delete(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/prices"))?;
    cluster.patch(
        &format!("/api/v1/namespaces/{NAMESPACE}/configmaps/recipes"),
        json!({ "data": { "of": "grandmother" } }),
    )?;
    let diff: [&[&str]; 4] = [
        &["diff", "nightly"],
        &["diff", "nightly", "cm/recipes", "-o", "json"],
        &["diff", "nightly", "nightly", "-o", "wide"],
        &["diff", "nightly", "cm/nothing"],
    ];
    script.transcript("diff", &diff)?;
    let restore: [&[&str]; 4] = [
        &["restore", "nightly", "--name", "first"],
        &["restores", "list"],
        &[
            "restore",
            "nightly",
            "cm/recipes",
            "--name",
            "second",
            "--existing-resource-policy",
            "update",
        ],
        &[
            "restore",
            "nightly",
            "--name",
            "third",
            "--namespace-mappings",
            "bakery:cafe",
            "-o",
            "wide",
        ],
    ];
    script.transcript("restore", &restore)?;
    script.transcript(
        "delete",
        &[&["delete", "nightly"], &["delete", "nightly", "--dry-run"]],
    )?;
    let wrong: [&[&str]; 7] = [
        &["describe", "gone"],
        &["create", "Not_A_Name"],
        &["create", "x", "-l", "a in (b"],
        &["create", "x", "--include-resources", "deploymnets"],
        &["list", "--location", "/srv/backups"],
        &["list", "--location", "nowhere"],
        &["contents", "nightly", "ingresses"],
    ];
    script.transcript("errors", &wrong)?;
    let tarball = store.path().join("backups/nightly/nightly.tar.gz");
    let mut bytes = std::fs::read(&tarball)?;
    bytes.truncate(100);
    script.transcript("verify", &[&["verify", "nightly"], &["verify", "gone"]])?;
    std::fs::write(&tarball, bytes)?;
    script.transcript("verify-damaged", &[&["verify", "nightly"]])?;
    let expires = "2026-01-01T00:00:00Z";
    let retention: [&[&str]; 8] = [
        &["hold", "nightly", "--reason", "case 4711"],
        &["retention", "plan"],
        &["delete", "nightly", "--yes"],
        &["release", "nightly"],
        &["retention", "set", "nightly", "--expires", expires],
        &["retention", "plan", "-o", "json"],
        &["retention", "apply"],
        &["retention", "plan", "--schedule", "nightly"],
    ];
    script.transcript("retention", &retention)
}

#[test]
fn only_what_differs_from_run_to_run_is_replaced() {
    for (line, expected) in [
        (
            "nightly   Completed   2026-11-22T21:02:02Z    29d   5     1.2KiB",
            "nightly   Completed   <time>   <days>   5   <size>",
        ),
        (
            "Expiration:  2026-11-22T21:02:02Z (29d)",
            "Expiration:   <time> (<days>)",
        ),
        ("  uid: 139c788b-322f-42f5-bbe0-7e8e8b51aeea", "  uid: <uid>"),
        ("  resourceVersion: \"400\"", "  resourceVersion: \"<number>\""),
        (
            "took 0.9s and *** (21 bytes)",
            "took <duration> and *** (21 bytes)",
        ),
        ("b.tar.gz (19KiB), 1 file", "b.tar.gz (<size>), 1 file"),
        ("frontend   6.2KiB   e768721241a7", "frontend   <size>   <digest>"),
        ("TTL: 720h0m0s", "TTL: 720h0m0s"),
        ("app in (a,b)  x", "app in (a,b)   x"),
    ] {
        assert_eq!(redact_line(line), expected);
    }
}
