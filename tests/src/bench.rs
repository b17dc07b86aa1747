//! The bench: limits, product and peer on the same servers in one run.
//!
//! In come sizes and repetitions; out come a table on stdout and, if asked for, a JSON file with every single run. The
//! limit of a backup is a bare parallel list, that of a restore a bare parallel create loop, both with the client that the
//! product uses ([`limits`]); the peer is Velero ([`velero`]). Memory is the largest resident size of the whole process.

mod large;
mod limits;
mod meter;
pub mod options;
mod report;
mod size;
mod velero;
pub mod volumes;
pub mod webhook;

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use self::options::Options;
use self::size::Earlier;
use crate::cluster::Cluster;
use crate::plugin;
use crate::runtime::progress;

/// Namespaces that the ballast is spread over.
const NAMESPACES: usize = 20;

/// Measures everything that was asked for.
pub fn run(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        say("this is a build for debugging: the figures mean nothing; run `cargo bench-suite`");
    }
    say("building what is not built yet");
    plugin::binary()?;
    let mut rows = Vec::new();
    let mut earlier = Earlier::default();
    let mut sizes = options.objects.clone();
    sizes.sort_unstable();
    sizes.dedup();
    for count in sizes {
        let source = start("source")?;
        let measured = size::measure(&source, count, options, &mut earlier, &mut rows)?;
        // Last on this cluster, since it leaves objects of its own.
        if options.velero {
            velero::measure(&source, count, &measured, &mut rows)?;
        }
    }
    if options.large > 0 {
        large::measure(options.large, options.runs, &mut rows)?;
    }
    let _ = writeln!(std::io::stdout(), "{}", report::table(&rows));
    if let Some(file) = &options.json {
        report::write_json(file, &conditions(options), &rows)?;
    }
    Ok(())
}

/// A control plane without controllers: they would work beside us and nobody needs what they make.
fn start(name: &str) -> Result<Cluster> {
    Cluster::builder().name(name).controllers(false).start()
}

fn say(line: &str) {
    progress(&format!(
        "{} {line}",
        backup_engine::clock::now().strftime("%H:%M:%S")
    ));
}

// Precise enough for tenths of a MiB.
#[allow(clippy::cast_precision_loss)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What a reader must know to judge the figures.
fn conditions(options: &Options) -> Value {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:").map(str::trim));
    json!({
        "date": backup_engine::clock::now().strftime("%Y-%m-%d").to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": memory,
        "runs": options.runs,
        "servers": "etcd 3.6.4 without fsync and kube-apiserver 1.34.4 on the same machine, no controllers; versitygw 1.8.0",
        "objects": "1 KiB each: 70 % ConfigMaps, 20 % Secrets, 10 % Roles, in 20 namespaces",
    })
}
