//! The driver `Plugin`, shown on a script in the place of the plugin: what it gives its runs, and what it sees of them.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::Result;
use backup_tests::plugin::Plugin;
use backup_tests::process::is_alive;
use backup_tests::scratch::Scratch;
use backup_tests::store::Store;
use serde_json::json;

const SCRIPT: &str = r#"#!/bin/sh
case "$1" in
  environment) env | sort ;;
  arguments) shift; for argument; do echo "<$argument>"; done ;;
  fail) echo "cannot do it" >&2; exit "$2" ;;
  json) echo '{"kind": "Listing", "arguments": "'"$*"'"}' ;;
  wait) trap 'echo stopped; exit 130' INT; echo waiting >&2; while :; do sleep 0.05; done ;;
esac
"#;

fn script(folder: &Scratch) -> Result<Plugin> {
    let file = folder.join("kubectl-backup");
    std::fs::write(&file, SCRIPT)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Plugin::of_binary(&file)
}

#[test]
fn a_run_sees_its_own_environment_and_nothing_else() -> Result<()> {
    let (folder, store) = (Scratch::new("script-")?, Store::folder()?);
    let plugin = script(&folder)?
        .with_store(&store)
        .with_env("TZ", "UTC")
        .with_env("TZ", "Asia/Tokyo");
    let ran = plugin.run(["environment"])?.ok();
    let names: Vec<&str> = ran
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    // PWD and friends are the shell's.
    let given = [
        "HOME",
        "KUBECTL_BACKUP_LOCATION",
        "LANG",
        "NO_COLOR",
        "PATH",
        "TZ",
    ];
    assert!(given.iter().all(|name| names.contains(name)), "{names:?}");
    let known = |name: &&str| {
        given.contains(name) || ["PWD", "OLDPWD", "SHLVL", "_", "RUST_BACKTRACE"].contains(name)
    };
    assert!(names.iter().all(known), "{names:?}");
    ran.stdout_has(&format!(
        "KUBECTL_BACKUP_LOCATION=file://{}",
        store.path().display()
    ))
    .stdout_has("TZ=Asia/Tokyo");
    Ok(())
}

#[test]
fn words_reach_the_plugin_unchanged_also_through_kubectl() -> Result<()> {
    let folder = Scratch::new("script-")?;
    let plugin = script(&folder)?;
    let words = ["arguments", "create", "b 1", "--labels=a=$HOME", "", "-n", "shöp"];
    let wanted = "<create>\n<b 1>\n<--labels=a=$HOME>\n<>\n<-n>\n<shöp>\n";
    assert_eq!(plugin.run(words)?.ok().stdout, wanted);
    assert_eq!(plugin.via_kubectl(words)?.ok().stdout, wanted);
    Ok(())
}

#[test]
fn exit_code_and_both_outputs_are_seen() -> Result<()> {
    let folder = Scratch::new("script-")?;
    let plugin = script(&folder)?;
    plugin
        .run(["fail", "3"])?
        .exits(3)
        .stderr_has("cannot do it")
        .nowhere_has("secret");
    plugin.via_kubectl(["fail", "4"])?.exits(4);
    assert_eq!(plugin.json(["json"])?["arguments"], json!("json -o json"));
    assert!(plugin.json(["fail", "1"]).is_err());
    Ok(())
}

#[test]
#[should_panic(expected = "wanted exit code 0")]
fn a_failed_run_is_not_ok() {
    let folder = Scratch::new("script-").unwrap();
    script(&folder).unwrap().run(["fail", "1"]).unwrap().ok();
}

#[test]
fn a_run_can_be_interrupted_killed_and_dropped() -> Result<()> {
    let folder = Scratch::new("script-")?;
    let plugin = script(&folder)?;
    let start = || -> Result<_> {
        let mut running = plugin.spawn(["wait"])?;
        running.wait_until("it says that it waits", |running| {
            running.stderr_so_far().contains("waiting")
        })?;
        Ok(running)
    };
    let interrupted = start()?;
    interrupted.interrupt()?;
    interrupted.wait()?.exits(130).stdout_has("stopped");
    let killed = start()?;
    killed.kill()?;
    let killed = killed.wait()?.exits(137);
    assert!(killed.peak_memory > 100_000 && killed.took > Duration::from_millis(1));
    let dropped = start()?;
    let pid = dropped.pid();
    drop(dropped);
    assert!(!is_alive(pid));
    Ok(())
}
