//! The bench of volume data: `cargo bench-suite volumes`.
//!
//! In come repetitions; out comes the same table as for backups. Our mover, the program that a pod runs, and the real restic
//! read the same folder into stores of the same kind, in turns, first into an empty repository and then again; both write it
//! back. Both are at their defaults: zstd at its default level, a repository that is made before the clock runs. restic has its
//! cache; we have none. What a mover writes back it also reads again and compares, so that its peer is `restic restore --verify`.

mod files;
pub mod options;
mod programs;

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::options::Options;
use self::programs::{Place, Took};
use super::report::{self, Bar, Row};
use super::{mebibytes, say};
use crate::plugin;
use crate::scratch::Scratch;
use crate::store::Store;

/// Most memory of a mover, in MiB, whatever the number of files.
const MEMORY: f64 = 256.0;

/// Measures everything that was asked for.
pub fn run(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        say("this is a build for debugging: the figures mean nothing; run `cargo bench-suite volumes`");
    }
    say("building what is not built yet");
    plugin::binary()?;
    let mut rows = Vec::new();
    if options.compare {
        let folder = Scratch::new("volume-")?;
        say("writing the files");
        let count = files::mixed(folder.path())?;
        compare(
            "a folder",
            &Store::folder()?,
            &folder,
            count,
            options.runs,
            &mut rows,
        )?;
        compare(
            "S3",
            &Store::shared_versitygw()?,
            &folder,
            count,
            options.runs,
            &mut rows,
        )?;
    }
    if options.million > 0 {
        many(options.million, &mut rows)?;
    }
    let _ = writeln!(std::io::stdout(), "{}", report::table_of("FILES", &rows));
    if let Some(file) = &options.json {
        report::write_json(file, &conditions(options), &rows)?;
    }
    Ok(())
}

/// One kind of run, ours and restic's.
#[derive(Default)]
struct Pair {
    ours: Vec<Took>,
    theirs: Vec<Took>,
}

impl Pair {
    fn rows(&self, count: usize, what: &str, command: &str, rows: &mut Vec<Row>) {
        let seconds = |runs: &[Took]| runs.iter().map(|took| took.time.as_secs_f64()).collect();
        let memory = |runs: &[Took]| runs.iter().map(|took| mebibytes(took.peak)).collect();
        let theirs = Row::new(
            count,
            &format!("restic {command}, {what}"),
            "s",
            seconds(&self.theirs),
        );
        let ours = Row::new(count, &format!("mover, {what}"), "s", seconds(&self.ours))
            .against(&theirs)
            .bar(Bar::AtMost(1.0));
        let their_peak = Row::new(
            count,
            &format!("memory of restic {command}, {what}"),
            "MiB",
            memory(&self.theirs),
        );
        let our_peak = Row::new(
            count,
            &format!("memory of the mover, {what}"),
            "MiB",
            memory(&self.ours),
        )
        .bar(Bar::AtMost(MEMORY));
        rows.extend([theirs, ours, their_peak, our_peak]);
    }
}

fn compare(
    kind: &str,
    store: &Store,
    folder: &Scratch,
    count: usize,
    runs: usize,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let text = folder.path().to_str().context("not UTF-8")?;
    let (mut first, mut second, mut back, mut plain) =
        (Pair::default(), Pair::default(), Pair::default(), Vec::new());
    for run in 1..=runs {
        say(&format!("to {kind}: {run} of {runs}"));
        let work = Scratch::new("work-")?;
        let (cache, empty) = (work.join("cache"), work.join("empty"));
        fs::create_dir(&empty)?;
        let ours = Place::new(store, &format!("ours-{run}"))?;
        let theirs = Place::new(store, &format!("theirs-{run}"))?;
        ours.back_up(&empty, "empty")?;
        theirs.restic(&cache, &["init"])?;
        let mut snapshot = String::new();
        for pair in [&mut first, &mut second] {
            // Whoever begins finds the disk idle.
            let (mut we, mut they) = (None, None);
            for is_ours in [run % 2 == 0, run % 2 != 0] {
                if is_ours {
                    we = Some(ours.back_up(folder.path(), "data")?);
                } else {
                    they = Some(theirs.restic(&cache, &["backup", "--quiet", text])?);
                }
            }
            let (we, they) = (we.context("not run")?, they.context("not run")?);
            let stored = &we.report;
            ensure!(stored["trouble"]["unread"]["count"] == 0, "{stored}");
            stored["snapshot"]
                .as_str()
                .context("no snapshot")?
                .clone_into(&mut snapshot);
            say(&format!(
                "ours {:.1?}, {}; restic {:.1?}",
                we.time,
                summary(stored),
                they.time
            ));
            pair.ours.push(we);
            pair.theirs.push(they);
        }
        let target = |name: &str| -> Result<_> {
            let target = work.join(name);
            fs::create_dir(&target)?;
            Ok(target)
        };
        let ours_back = target("ours")?;
        back.ours.push(ours.restore(&snapshot, &ours_back)?);
        fs::remove_dir_all(&ours_back)?;
        for (name, verify) in [("plain", false), ("verified", true)] {
            let target = target(name)?;
            let text = target.to_str().context("not UTF-8")?;
            let words = ["restore", "latest", "--target", text, "--verify"];
            let took = theirs.restic(&cache, &words[..words.len() - usize::from(!verify)])?;
            fs::remove_dir_all(&target)?;
            if verify { &mut back.theirs } else { &mut plain }.push(took);
        }
        ours.clear()?;
        theirs.clear()?;
    }
    first.rows(count, &format!("first to {kind}"), "backup", rows);
    second.rows(count, &format!("unchanged to {kind}"), "backup", rows);
    let seconds = plain.iter().map(|took| took.time.as_secs_f64()).collect();
    rows.push(Row::new(
        count,
        &format!("restic restore, not compared, back from {kind}"),
        "s",
        seconds,
    ));
    back.rows(count, &format!("back from {kind}"), "restore --verify", rows);
    Ok(())
}

fn summary(stored: &Value) -> String {
    format!(
        "{} files of {} bytes, {} added, {} unchanged",
        stored["files"], stored["bytes"], stored["added"], stored["unchanged"]
    )
}

/// Very many small files: backed up, backed up again, written back.
fn many(count: usize, rows: &mut Vec<Row>) -> Result<()> {
    say(&format!("writing {count} files"));
    let store = Store::folder()?;
    let place = Place::new(&store, "many")?;
    let source = Scratch::new("many-")?;
    files::many(source.path(), count)?;
    let mut row = |what: &str, took: &Took| {
        say(&format!(
            "{what}: {:.1?}, {:.0} MiB",
            took.time,
            mebibytes(took.peak)
        ));
        rows.push(Row::new(count, what, "s", vec![took.time.as_secs_f64()]));
        let memory = Row::new(
            count,
            &format!("memory of that: {what}"),
            "MiB",
            vec![mebibytes(took.peak)],
        );
        rows.push(memory.bar(Bar::AtMost(MEMORY)));
    };
    let first = place.back_up(source.path(), "many")?;
    row("small files, first", &first);
    ensure!(first.report["files"] == count, "{}", first.report);
    let second = place.back_up(source.path(), "many")?;
    row("small files, unchanged", &second);
    ensure!(second.report["unchanged"] == count, "{}", second.report);
    // Twice as many files on the disk would be too much to ask for.
    drop(source);
    let target = Scratch::new("back-")?;
    let snapshot = second.report["snapshot"].as_str().context("no snapshot")?;
    let back = place.restore(snapshot, target.path())?;
    row("small files, written back", &back);
    ensure!(back.report["verified"] == count, "{}", back.report);
    Ok(())
}

/// What a reader must know to judge the figures.
fn conditions(options: &Options) -> Value {
    let restic = std::process::Command::new("restic").arg("version").output();
    let restic = restic.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    json!({
        "date": backup_engine::clock::now().strftime("%Y-%m-%d").to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "runs": options.runs,
        "restic": restic.unwrap_or_default(),
        "files": "4 of 120 MiB that do not compress, 4 of 120 MiB that do, 20,000 of 1 to 16 KiB; in the page cache",
    })
}
