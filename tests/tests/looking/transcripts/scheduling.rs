//! The `schedule` commands of engine direct, against an API server whose CronJobs are never started.

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;

use super::{Redaction, Script};

#[test]
fn scheduling_commands_print_what_is_stored() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    let store = Store::shared_versitygw()?;
    let plugin = Plugin::new(&cluster, &store)?;
    plugin
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    let redaction = Redaction {
        texts: vec![
            (plugin.home().display().to_string(), "<home>"),
            (store.location_url(), "<url>"),
            (store.endpoint().context("no server")?, "<endpoint>"),
            (store.bucket().context("no bucket")?.to_owned(), "<bucket>"),
        ],
    };
    let script = Script {
        plugin: &plugin,
        redaction: &redaction,
    };
    // Once in four years: the next time is the same for a while.
    let rarely = ["--schedule", "CRON_TZ=Europe/Berlin 30 3 29 2 *"];
    let create = [
        &["schedule", "create", "leap"][..],
        &rarely,
        &["--keep-last", "3", "-n", "shop"],
    ]
    .concat();
    let commands: [&[&str]; 12] = [
        &["schedule", "create", "never", "--schedule", "0 0 31 2 *"],
        &["schedule", "create", "odd", "--schedule", "@every 7h"],
        &create,
        &create,
        &["schedule", "list"],
        &["schedule", "pause", "leap"],
        &["schedule", "list", "-o", "name"],
        &["schedule", "describe", "leap"],
        &["schedule", "resume", "leap"],
        &["schedule", "delete", "leap"],
        &["schedule", "delete", "leap", "--yes"],
        &["schedule", "describe", "leap"],
    ];
    script.transcript("schedule", &commands)
}
