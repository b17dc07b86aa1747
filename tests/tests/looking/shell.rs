//! The plugin among other programs: kubectl, shells, pipes, terminals.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::plugin::{self, Plugin};
use backup_tests::scratch::Scratch;
use backup_tests::servers::{self, Program};
use backup_tests::store::Store;
use serde_json::Value;

use crate::site::Site;

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is UTF-8")
}

#[test]
fn kubectl_runs_it_as_a_command_of_its_own() -> Result<()> {
    let site = Site::on(Store::folder()?)?;
    let namespace = site.namespace.name();
    site.plugin.via_kubectl(["create", "b", "-n", namespace])?.ok();
    site.plugin
        .via_kubectl(["list", "-o", "name"])?
        .ok()
        .stdout_has("backup/b");
    site.plugin
        .via_kubectl(["cat", "b", "cm/prices"])?
        .ok()
        .stdout_has("of: web");
    site.plugin.via_kubectl(["describe", "gone"])?.exits(5);
    site.plugin
        .via_kubectl(["--help"])?
        .ok()
        .stdout_has("Usage: kubectl backup COMMAND");
    Ok(())
}

#[test]
fn kubectl_completes_it() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "nightly")?;
    let folder = Scratch::new("path-")?;
    for name in ["kubectl-backup", "kubectl_complete-backup"] {
        symlink(plugin::binary()?, folder.join(name))?;
    }
    let path = format!("{}:/usr/bin:/bin", utf8(folder.path())?);
    let kubectl = Plugin::of_binary(&servers::binary(Program::Kubectl)?)?
        .with_store(&site.store)
        .with_kubeconfig(site.cluster.kubeconfig())?
        .with_env("PATH", &path);
    let complete = |words: &[&str]| -> Result<Vec<String>> {
        let words = ["__complete", "backup"].iter().chain(words);
        let ran = kubectl.run(words)?.ok();
        Ok(ran.stdout.lines().map(str::to_owned).collect())
    };
    assert_eq!(complete(&["desc"])?, ["describe\tShow all about a backup", ":4"]);
    assert_eq!(complete(&["describe", "ni"])?, ["nightly", ":4"]);
    assert_eq!(complete(&["restore", ""])?[0], "nightly");
    assert_eq!(
        complete(&["location", "ch"])?[0].split('\t').next(),
        Some("check")
    );
    assert!(
        complete(&["list", "--sort-by", ""])?
            .iter()
            .any(|line| line.starts_with("size"))
    );
    assert!(complete(&[""])?.iter().any(|line| line.starts_with("create\t")));
    kubectl
        .run(["backup", "location", "add", "main", &site.store.location_url()])?
        .ok();
    assert_eq!(complete(&["list", "--location", "m"])?, ["main", ":4"]);
    assert_eq!(complete(&["cat", "--location", "main", "nig"])?[0], "nightly");
    Ok(())
}

#[test]
fn shells_get_a_script_that_they_accept() -> Result<()> {
    let plugin = Plugin::bare()?;
    for shell in ["bash", "zsh", "fish"] {
        plugin
            .run(["completion", shell])?
            .ok()
            .stdout_has("kubectl-backup");
    }
    let script = plugin.run(["completion", "bash"])?.ok().stdout;
    let file = plugin.home().join("script");
    std::fs::write(&file, script)?;
    Plugin::of_binary(Path::new("/bin/bash"))?
        .run(["-n", utf8(&file)?])?
        .ok();
    plugin.run(["completion", "tcsh"])?.exits(2);
    Ok(())
}

#[test]
fn its_version_and_the_clusters() -> Result<()> {
    let cluster = Cluster::shared()?;
    let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    let version = plugin.json(["version"])?;
    let served = cluster.get("/version")?.context("/version")?;
    assert_eq!(version["serverVersion"], served["gitVersion"]);
    assert_eq!(
        (&version["kind"], &version["formatVersion"]),
        (&"Version".into(), &"1".into())
    );
    let own = version["clientVersion"].as_str().context("clientVersion")?;
    plugin
        .run(["version", "--client"])?
        .ok()
        .stdout_has(own)
        .nowhere_has("cluster ");
    plugin.run(["--version"])?.ok().stdout_has(own);
    // Its own version is an answer where there is no cluster.
    Plugin::bare()?
        .run(["version"])?
        .ok()
        .stdout_has(own)
        .stderr_has("not known");
    Ok(())
}

/// The commands that a help text lists: first words of lines that are indented by two blanks.
fn commands(help: &str, heading: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != heading).skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.strip_prefix("  ")?
                .split_whitespace()
                .next()
                .map(str::to_owned)
        })
        .collect()
}

#[test]
fn every_command_explains_itself() -> Result<()> {
    let plugin = Plugin::bare()?;
    let overview = plugin.run(["--help"])?.ok();
    assert_eq!(plugin.run(["-h"])?.ok().stdout, overview.stdout);
    let headings = [
        "Back up:",
        "Look at backups:",
        "Move and delete backups:",
        "Restore:",
        "Set up:",
    ];
    let names: BTreeSet<String> = headings
        .iter()
        .flat_map(|heading| commands(&overview.stdout, heading))
        .collect();
    assert_eq!(names.len(), 23, "{names:?}");
    let mut below = 0;
    for name in &names {
        let short = plugin
            .run([name, "-h"])?
            .ok()
            .stdout_has(&format!("Usage: kubectl backup {name}"));
        let long = plugin
            .run([name, "--help"])?
            .ok()
            .stdout_has(&format!("Usage: kubectl backup {name}"));
        assert!(long.stdout.len() >= short.stdout.len(), "{name}");
        assert!(
            short.stdout.lines().all(|line| line.chars().count() <= 130),
            "{short}"
        );
        for sub in commands(&short.stdout, "Commands:") {
            if sub != "help" {
                let usage = format!("Usage: kubectl backup {name} {sub}");
                plugin.run([name, &sub, "-h"])?.ok().stdout_has(&usage);
                below += 1;
            }
        }
    }
    assert_eq!(below, 10, "location has six, restores four");
    let ran = plugin.run::<&str>([])?;
    assert_eq!(ran.code, 2, "{ran}");
    Ok(())
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    let binary = plugin::binary()?;
    let shell = Plugin::of_binary(Path::new("/bin/sh"))?.with_store(&site.store);
    for words in [
        "list",
        "describe b",
        "contents b",
        "contents b -o json",
        "cat b cm/prices",
        "logs b",
        "-h",
    ] {
        // `true` is gone before the first byte is written.
        let script = format!("{{ sleep 0.3; \"$0\" {words}; echo \"code $?\" >&2; }} | true");
        let ran = shell.run(["-c", &script, utf8(&binary)?])?.ok();
        assert_eq!(ran.stderr, "code 0\n", "{words}");
        let script = format!("{{ \"$0\" {words}; echo \"code $?\" >&2; }} | head -1");
        let ran = shell.run(["-c", &script, utf8(&binary)?])?.ok();
        assert_eq!(
            (ran.stdout.lines().count(), ran.stderr.as_str()),
            (1, "code 0\n"),
            "{words}"
        );
    }
    Ok(())
}

#[test]
fn colour_is_for_terminals_whose_owner_wants_it() -> Result<()> {
    let store = Store::folder()?;
    let binary = plugin::binary()?;
    let on_terminal = |no_color: &str| -> Result<String> {
        let terminal = Plugin::of_binary(Path::new("/usr/bin/script"))?
            .with_store(&store)
            .with_env("TERM", "xterm-256color")
            .with_env("NO_COLOR", no_color);
        let line = format!("'{}' describe gone", utf8(&binary)?);
        Ok(terminal
            .run(["-q", "-e", "-c", &line, "/dev/null"])?
            .exits(5)
            .stdout)
    };
    let coloured = on_terminal("")?;
    assert!(coloured.contains("\x1b["), "{coloured:?}");
    let plain = on_terminal("1")?;
    assert!(plain.contains("error:") && !plain.contains('\x1b'), "{plain:?}");
    let piped = Plugin::bare()?
        .with_store(&store)
        .with_env("NO_COLOR", "")
        .run(["describe", "gone"])?;
    piped.exits(5).nowhere_has("\x1b");
    Ok(())
}

#[test]
fn a_person_on_a_terminal_types_the_name_to_delete() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    let binary = plugin::binary()?;
    let typed = |answer: &str| -> Result<backup_tests::plugin::Ran> {
        let line = format!("'{}' delete b", utf8(&binary)?);
        let script = format!("{{ sleep 0.5; echo {answer}; sleep 1; }} | script -q -e -c \"$0\" /dev/null");
        let shell = Plugin::of_binary(Path::new("/bin/sh"))?.with_store(&site.store);
        shell.run(["-c", &script, &line])
    };
    typed("y")?.exits(4).stdout_has("its name was not typed");
    assert!(site.file("b", "velero-backup.json").is_file());
    typed("b")?.ok().stdout_has("backup/b deleted");
    assert!(site.store.keys()?.is_empty());
    Ok(())
}

#[test]
fn machines_get_one_document() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    for words in [
        vec!["list"],
        vec!["describe", "b"],
        vec!["contents", "b"],
        vec!["contents", "b", "--kinds"],
        vec!["find", "cm/prices"],
        vec!["verify", "b"],
        vec!["restores", "list"],
        vec!["location", "list"],
        vec!["location", "check"],
        vec!["version"],
        vec!["create", "--dry-run", "-n", site.namespace.name()],
    ] {
        let document = site.plugin.json(&words)?;
        assert_eq!(document["apiVersion"], "cli.kubectl-backup.io/v1", "{words:?}");
        assert!(document["kind"].is_string(), "{words:?}");
        let yaml = site
            .plugin
            .run(words.iter().copied().chain(["-o", "yaml"]))?
            .ok()
            .stdout;
        let yaml: Value = serde_saphyr::from_str(&yaml).with_context(|| format!("{words:?}"))?;
        assert_eq!(yaml["kind"], document["kind"]);
    }
    Ok(())
}
