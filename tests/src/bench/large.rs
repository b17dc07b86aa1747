//! Thousands of objects of 1 MiB that do not compress: the memory of a backup, and what reading one object costs.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::meter::Meter;
use super::report::{Bar, Row};
use super::size::done;
use super::{mebibytes, say, start};
use crate::cluster::base64;
use crate::plugin::Plugin;
use crate::store::Store;

/// Bytes of each object; the API server allows 1 MiB of data.
const BYTES: usize = 1_040_000;

/// How many are needed for a backup of 1 GB, which the bars are meant for.
const MANY: usize = 1_000;

pub(super) fn measure(count: usize, runs: usize, rows: &mut Vec<Row>) -> Result<()> {
    say(&format!("{count} objects of 1 MiB: creating them"));
    let source = start("large")?;
    source.create_many(count, large_object)?;
    let bucket = Store::shared_versitygw()?;
    let plugin = Plugin::new(&source, &bucket)?;
    let mut peaks = Vec::new();
    for run in 1..=runs {
        say(&format!("{count} objects of 1 MiB: backup {run} of {runs}"));
        peaks.push(mebibytes(
            done(plugin.run(["create", &format!("large-{run}")])?)?.peak_memory,
        ));
    }
    let memory = Row::new(count, "memory of a backup of 1 MiB objects to S3", "MiB", peaks);
    rows.push(memory.bar_from(MANY, Bar::AtMost(160.0)));
    rows.push(one_object(count, &bucket)?);
    Ok(())
}

/// The share of a backup that is read to print one object of it.
fn one_object(count: usize, bucket: &Store) -> Result<Row> {
    let endpoint = bucket.endpoint().context("the store is no S3 server")?;
    let meter = Meter::before(&endpoint)?;
    let location = bucket.location_url().replace(&endpoint, &meter.endpoint());
    let plugin = bucket
        .env()
        .iter()
        .fold(Plugin::bare()?, |plugin, (name, value)| {
            plugin.with_env(name, value)
        })
        .with_env("KUBECTL_BACKUP_LOCATION", &location);
    let name = format!("configmap/large-{:05}", count / 2);
    done(plugin.run(["cat", "large-1", &name, "-n", "default"])?)?;
    let mut stored = 0;
    for key in bucket
        .keys()?
        .iter()
        .filter(|key| key.starts_with("backups/large-1/"))
    {
        stored += std::fs::metadata(bucket.path().join(key))?.len();
    }
    say(&format!(
        "read {} of {stored} bytes for one object",
        meter.answered()
    ));
    // Precise enough for a percentage.
    #[allow(clippy::cast_precision_loss)]
    let share = meter.answered() as f64 / stored as f64 * 100.0;
    let row = Row::new(
        count,
        "read of a backup for one object of 1 MiB",
        "%",
        vec![share],
    );
    Ok(row.bar_from(MANY, Bar::AtMost(1.0)))
}

fn large_object(number: usize) -> Value {
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        // xorshift64: fast, and nothing that gzip could shorten.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(BYTES / 8)
    .flatten()
    .collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("large-{number:05}"), "namespace": "default" },
        "binaryData": { "blob": base64(&bytes) },
    })
}
