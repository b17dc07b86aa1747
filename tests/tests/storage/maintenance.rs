//! Repositories that are maintained and damaged: a prune that dies loses nothing, and damage is named with what it hurts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use backup_engine::repository::{
    BucketFiles, Depth, File, Files, FilesError, Lock, Mode, Repository, RepositoryError, Source, Tags,
    Target,
};
use backup_engine::storage::{Bucket, folder::Folder};
use backup_tests::meter::Meter;
use backup_tests::plugin::Plugin;
use backup_tests::scratch::Scratch;
use backup_tests::store::Store;
use backup_tests::zoo;
use bytes::Bytes;
use jiff::SignedDuration;
use tokio::runtime::{Handle, Runtime};

use super::repository::{apart, restic, runtime};

const PASSWORD: &str = super::repository::PASSWORD;

/// Volumes whose packs are each half wanted in the end.
const VOLUMES: usize = 12;

/// A place that fails from a certain change on, as one whose power is cut.
struct Failing {
    inner: Arc<dyn Files>,
    left: AtomicU64,
}

impl Failing {
    fn change(&self) -> Result<(), FilesError> {
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| gone())
    }

    fn look(&self) -> Result<(), FilesError> {
        if self.left.load(Ordering::SeqCst) == 0 {
            Err(gone())
        } else {
            Ok(())
        }
    }
}

fn gone() -> FilesError {
    FilesError("the power is gone".to_owned())
}

#[async_trait]
impl Files for Failing {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn list(&self, folder: &str) -> Result<Vec<File>, FilesError> {
        self.look()?;
        self.inner.list(folder).await
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>, FilesError> {
        self.look()?;
        self.inner.read(name).await
    }

    async fn read_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, FilesError> {
        self.look()?;
        self.inner.read_range(name, offset, length).await
    }

    async fn write(&self, name: &str, body: Bytes, if_absent: bool) -> Result<bool, FilesError> {
        self.change()?;
        self.inner.write(name, body, if_absent).await
    }

    async fn remove(&self, name: &str) -> Result<(), FilesError> {
        self.change()?;
        self.inner.remove(name).await
    }
}

fn files(place: &Path) -> Arc<dyn Files> {
    let bucket: Arc<dyn Bucket> = Arc::new(Folder::new(place, false));
    Arc::new(BucketFiles::of_namespace(bucket, "shop"))
}

fn open(place: &Path) -> Result<Repository, RepositoryError> {
    Repository::open_or_create(&files(place), PASSWORD, &Handle::current())
}

/// Backs a folder up as a volume, for a backup of this name.
fn back_up(
    runtime: &Runtime,
    files: Arc<dyn Files>,
    folder: &Path,
    volume: &str,
    backup: &str,
) -> Result<String> {
    let tags: Tags = [
        ("ns", "shop"),
        ("volume", volume),
        ("pvc-uid", volume),
        ("backup", backup),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    let folder = folder.to_owned();
    let stored = runtime.block_on(apart(move || {
        Repository::open_or_create(&files, PASSWORD, &Handle::current())?.back_up(Source {
            folder: &folder,
            tags: &tags,
        })
    }))??;
    Ok(stored.snapshot)
}

fn noise(seed: usize, bytes: usize) -> Vec<u8> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(bytes)
    .collect()
}

/// Snapshots whose packs are each half wanted by the last, which alone is left; gives the last and its folder.
fn to_be_pruned(runtime: &Runtime, files: &Arc<dyn Files>, folder: &Path) -> Result<String> {
    let mut ids = Vec::new();
    for number in 0..VOLUMES {
        fs::write(folder.join(format!("kept-{number}")), noise(number, 100_000))?;
        let goes = folder.join(format!("goes-{number}"));
        fs::write(&goes, noise(1000 + number, 100_000))?;
        ids.push(back_up(
            runtime,
            Arc::clone(files),
            folder,
            "data",
            &format!("b{number}"),
        )?);
        fs::remove_file(&goes)?;
    }
    let last = back_up(runtime, Arc::clone(files), folder, "data", "last")?;
    let files = Arc::clone(files);
    runtime.block_on(apart(move || {
        Repository::open(files, PASSWORD, &Handle::current())?.forget(&ids)
    }))??;
    Ok(last)
}

fn prune(
    runtime: &Runtime,
    files: Arc<dyn Files>,
    marked_for: SignedDuration,
) -> Result<Result<u64, RepositoryError>> {
    runtime.block_on(apart(move || {
        Repository::open(files, PASSWORD, &Handle::current())?
            .prune_marked_for(marked_for, false)
            .map(|pruned| pruned.removed)
    }))
}

/// What a snapshot gives back is what the folder holds.
fn gives_back(runtime: &Runtime, files: Arc<dyn Files>, id: &str, folder: &Path) -> Result<()> {
    let target = Scratch::new("back-")?;
    let (to, id) = (target.path().to_owned(), id.to_owned());
    runtime.block_on(apart(move || {
        Repository::open(files, PASSWORD, &Handle::current())?
            .restore(
                &id,
                Target {
                    folder: &to,
                    delete: false,
                    with_owners: true,
                },
            )
            .map(drop)
    }))??;
    let (mut before, mut after) = (zoo::look(folder)?, zoo::look(target.path())?);
    before.remove(Path::new(""));
    after.remove(Path::new(""));
    ensure!(before == after, "{before:#?}\n{after:#?}");
    Ok(())
}

fn restic_accepts(place: &Path) -> Result<()> {
    // Who died has left a lock.
    let output = restic(place, &["check", "--read-data", "--no-lock"])?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn packs(place: &Path) -> Result<Vec<PathBuf>> {
    let mut packs = Vec::new();
    for folder in fs::read_dir(place.join("restic/shop/data"))? {
        for pack in fs::read_dir(folder?.path())? {
            packs.push(pack?.path());
        }
    }
    Ok(packs)
}

fn length_of(packs: &[PathBuf]) -> Result<u64> {
    packs.iter().map(|pack| Ok(fs::metadata(pack)?.len())).sum()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp");
    Ok(())
}

#[test]
fn a_prune_that_dies_at_any_change_loses_nothing() -> Result<()> {
    let scratch = Scratch::new("prune-")?;
    let (folder, place) = (scratch.join("data"), scratch.join("place"));
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(&place)?;
    let runtime = runtime()?;
    let last = to_be_pruned(&runtime, &files(&place), &folder)?;
    // What a whole one comes to: what was marked is removed by the next.
    let whole = scratch.join("whole");
    copy(&place, &whole)?;
    let day = SignedDuration::from_hours(23);
    assert_eq!(prune(&runtime, files(&whole), day)??, 0);
    assert_eq!(
        prune(&runtime, files(&whole), day)??,
        0,
        "marked packs go a day later"
    );
    assert!(prune(&runtime, files(&whole), SignedDuration::ZERO)?? > 0);
    restic_accepts(&whole)?;
    gives_back(&runtime, files(&whole), &last, &folder)?;
    let least = length_of(&packs(&whole)?)?;
    assert!(least < length_of(&packs(&place)?)?);

    // The first marks and writes again, the second removes: both are cut off after more and more of their changes.
    for prunes in [1, 2] {
        let mut changes = 0;
        loop {
            let broken = scratch.join("broken");
            copy(&place, &broken)?;
            if prunes == 2 {
                prune(&runtime, files(&broken), day)??;
            }
            let failing: Arc<dyn Files> = Arc::new(Failing {
                inner: files(&broken),
                // The last one that is let through is followed by one that is not.
                left: AtomicU64::new(changes + 1),
            });
            let ended = prune(
                &runtime,
                failing,
                if prunes == 1 { day } else { SignedDuration::ZERO },
            )?;
            restic_accepts(&broken)
                .with_context(|| format!("prune {prunes} cut off after {changes} changes"))?;
            gives_back(&runtime, files(&broken), &last, &folder)?;
            // Whoever comes after it finishes.
            prune(&runtime, files(&broken), SignedDuration::ZERO)??;
            prune(&runtime, files(&broken), SignedDuration::ZERO)??;
            restic_accepts(&broken)?;
            let left = length_of(&packs(&broken)?)?;
            ensure!(
                left <= least + least / 10,
                "after prune {prunes} was cut off at {changes}, {left} bytes are left of {least}"
            );
            fs::remove_dir_all(&broken)?;
            match ended {
                Ok(_) if changes < 3 => bail!("a prune without changes"),
                Ok(_) => break,
                Err(error) => ensure!(error.to_string().contains("the power is gone"), "{error}"),
            }
            changes += 1 + changes / 2;
        }
    }
    Ok(())
}

#[test]
fn a_maintenance_that_is_killed_blocks_nobody_and_loses_nothing() -> Result<()> {
    let store = Store::shared_versitygw()?;
    let endpoint = store.endpoint().context("no server")?;
    let meter = Meter::start(endpoint.trim_start_matches("http://").parse()?)?;
    let scratch = Scratch::new("killed-")?;
    let folder = scratch.join("data");
    fs::create_dir_all(&folder)?;
    let runtime = runtime()?;
    let place = store.path();
    // Written where they really lie; the plugin sees them through S3.
    let last = to_be_pruned(&runtime, &files(&place), &folder)?;
    // A snapshot whose backup is not there would be an orphan, and go.
    let backup = place.join("backups/last");
    fs::create_dir_all(&backup)?;
    fs::write(backup.join("velero-backup.json"), "{}")?;
    let slow = store
        .location_url()
        .replace(&endpoint, &format!("http://{}", meter.address()));
    let plugin = Plugin::bare()?
        .with_store(&store)
        .with_env("KUBECTL_BACKUP_REPOSITORY_PASSWORD", PASSWORD)
        .with_env("KUBECTL_BACKUP_LOCATION", &slow);
    for bytes in [60_000, 120_000, 200_000] {
        meter.limit(bytes);
        let mut running = plugin.spawn(["location", "maintain"])?;
        running.wait_until("the prune to be in the middle", |_| meter.is_shut())?;
        running.kill()?;
        ensure!(running.wait()?.code == 137, "it ended before it was killed");
        restic_accepts(&place).with_context(|| format!("killed after {bytes} bytes"))?;
        gives_back(&runtime, files(&place), &last, &folder)?;
    }
    meter.limit(u64::MAX);
    // The lock of one that is dead on this machine excludes nobody.
    plugin.run(["location", "maintain"])?.ok();
    let runtime = &runtime;
    let lock = runtime.block_on(async {
        let place = place.clone();
        let repository = apart(move || open(&place)).await??;
        anyhow::Ok(Lock::take(&repository, Mode::Exclusive).await?)
    })?;
    runtime.block_on(lock.release())?;
    restic_accepts(&place)?;
    gives_back(runtime, files(&place), &last, &folder)
}

#[test]
fn damage_is_named_with_the_snapshots_that_it_hurts() -> Result<()> {
    let scratch = Scratch::new("hurt-")?;
    let place = scratch.join("place");
    fs::create_dir_all(&place)?;
    let runtime = runtime()?;
    let folder = |name: &str| -> Result<PathBuf> {
        let folder = scratch.join(name);
        fs::create_dir_all(folder.join("deep/er"))?;
        fs::write(folder.join("deep/er/own"), noise(name.len(), 3_000))?;
        Ok(folder)
    };
    // Two have a large file in common, which lies in the pack of the first; the third has nothing of it.
    let (one, other, third) = (folder("one")?, folder("other")?, folder("third!")?);
    for with in [&one, &other] {
        fs::write(with.join("deep/shared"), noise(99, 900_000))?;
    }
    let first = back_up(&runtime, files(&place), &one, "one", "b1")?;
    let after_first: BTreeSet<_> = packs(&place)?.into_iter().collect();
    let second = back_up(&runtime, files(&place), &other, "other", "b2")?;
    let last = back_up(&runtime, files(&place), &third, "third", "b3")?;
    let largest = after_first
        .iter()
        .max_by_key(|pack| fs::metadata(pack).map_or(0, |about| about.len()))
        .context("no packs")?;
    let smallest = after_first
        .iter()
        .min_by_key(|pack| fs::metadata(pack).map_or(0, |about| about.len()))
        .context("no packs")?;
    let id_of = |pack: &Path| pack.file_name().map(|name| name.to_string_lossy().into_owned());
    let hurt = |packs: BTreeSet<String>| -> Result<Vec<(String, String)>> {
        let place = place.clone();
        let found = runtime.block_on(apart(move || open(&place)?.hurt_by(&packs)))??;
        Ok(found
            .into_iter()
            .map(|snapshot| {
                (
                    snapshot.id,
                    snapshot.tags.get("backup").cloned().unwrap_or_default(),
                )
            })
            .collect())
    };
    let b1 = (first, "b1".to_owned());
    let both = vec![b1.clone(), (second, "b2".to_owned())];
    assert_eq!(hurt(BTreeSet::new())?, []);

    // A flipped bit of data that two of them need.
    let sound = fs::read(largest)?;
    let mut bytes = sound.clone();
    bytes[5_000] ^= 1;
    fs::write(largest, &bytes)?;
    let checked = {
        let place = place.clone();
        runtime.block_on(apart(move || open(&place)?.check(Depth::Data)))??
    };
    assert_eq!(checked.packs, id_of(largest).into_iter().collect(), "{checked:?}");
    assert_eq!(hurt(checked.packs)?, both);
    gives_back(&runtime, files(&place), &last, &third)?;
    // One that is cut short, and one that is missing, are found without being named.
    fs::write(largest, &sound[..sound.len() - 1])?;
    assert_eq!(hurt(BTreeSet::new())?, both);
    fs::remove_file(largest)?;
    assert_eq!(hurt(BTreeSet::new())?, both);
    gives_back(&runtime, files(&place), &last, &third)?;
    fs::write(largest, &sound)?;

    // A folder of the first that cannot be read hurts the first alone, also where nobody says which pack it was.
    let mut bytes = fs::read(smallest)?;
    for byte in &mut bytes {
        *byte ^= 1;
    }
    fs::write(smallest, &bytes)?;
    assert_eq!(hurt(BTreeSet::new())?, [b1]);
    gives_back(&runtime, files(&place), &last, &third)
}
