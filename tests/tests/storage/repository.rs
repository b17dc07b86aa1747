//! Volume data in restic's format, judged by the real restic.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use backup_engine::repository::{
    BucketFiles, Depth, Files, Lock, Mode, Repository, RepositoryError, Source, Tags, Target,
};
use backup_engine::storage::{Bucket, folder::Folder};
use backup_tests::scratch::Scratch;
use backup_tests::zoo;
use tokio::runtime::Handle;
use velero_model::mover::Stored;

pub(super) const PASSWORD: &str = "correct horse";

fn files(place: &Path) -> Arc<dyn Files> {
    let bucket: Arc<dyn Bucket> = Arc::new(Folder::new(place, false));
    Arc::new(BucketFiles::of_namespace(bucket, "shop"))
}

fn tags(uid: &str) -> Tags {
    BTreeMap::from([
        ("ns", "shop"),
        ("volume", "data"),
        ("pvc-uid", uid),
        ("backup", "b1"),
    ])
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

fn open(place: &Path) -> Result<Repository, RepositoryError> {
    Repository::open_or_create(&files(place), PASSWORD, &Handle::current())
}

/// Runs what is not asynchronous where it may wait.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

async fn back_up(place: &Path, folder: &Path, uid: &'static str) -> Result<Stored> {
    let (place, folder) = (place.to_owned(), folder.to_owned());
    let stored = apart(move || {
        open(&place)?.back_up(Source {
            folder: &folder,
            tags: &tags(uid),
        })
    });
    Ok(stored.await??)
}

async fn restore(place: &Path, id: &str, folder: &Path) -> Result<()> {
    let (place, folder, id) = (place.to_owned(), folder.to_owned(), id.to_owned());
    let target = move || {
        open(&place)?.restore(
            &id,
            Target {
                folder: &folder,
                delete: false,
                with_owners: true,
            },
        )
    };
    apart(target).await??;
    Ok(())
}

/// The real restic over the same files.
pub(super) fn restic(place: &Path, arguments: &[&str]) -> Result<Output> {
    Command::new("restic")
        .args(["--no-cache", "--repo"])
        .arg(place.join("restic/shop"))
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .context("restic does not start; apt-get install restic")
}

fn restic_ok(place: &Path, arguments: &[&str]) -> Result<String> {
    let output = restic(place, arguments)?;
    ensure!(
        output.status.success(),
        "restic {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// An empty folder to be backed up, and an empty place for the repository.
fn site() -> Result<(Scratch, PathBuf, PathBuf)> {
    let scratch = Scratch::new("repository-")?;
    let (folder, place) = (scratch.join("data"), scratch.join("place"));
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(&place)?;
    Ok((scratch, folder, place))
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

#[test]
fn the_real_restic_reads_what_was_written_and_both_give_back_the_same() -> Result<()> {
    let scratch = Scratch::new("repository-")?;
    let (zoo, place) = (scratch.join("zoo"), scratch.join("place"));
    fs::create_dir_all(&zoo)?;
    fs::create_dir_all(&place)?;
    zoo::fill(&zoo)?;
    let before = zoo::look(&zoo)?;
    let runtime = runtime()?;
    let stored = runtime.block_on(back_up(&place, &zoo, "u1"))?;
    assert_eq!(stored.trouble, velero_model::mover::Trouble::default());
    assert!(stored.bytes > 64 << 20, "{stored:?}");
    assert!(
        stored.added < 4 << 20,
        "neither holes nor doubles are stored: {stored:?}"
    );

    restic_ok(&place, &["check", "--read-data"])?;
    let listed = restic_ok(&place, &["snapshots", "--json"])?;
    for tag in ["ns=shop", "volume=data", "pvc-uid=u1", "backup=b1"] {
        ensure!(listed.contains(tag), "{listed}");
    }
    for (name, by) in [("theirs", "restic"), ("ours", "us")] {
        let target = scratch.join(name);
        fs::create_dir_all(&target)?;
        if by == "restic" {
            let text = target.to_str().context("not UTF-8")?;
            restic_ok(&place, &["restore", &stored.snapshot, "--target", text])?;
        } else {
            runtime.block_on(restore(&place, &stored.snapshot, &target))?;
        }
        let mut after = zoo::look(&target)?;
        let mut expected = before.clone();
        if by == "restic" {
            // It keeps no node for the folder itself.
            after.remove(Path::new(""));
            expected.remove(Path::new(""));
        } else {
            // Times of the volume's folder are nobody's to keep.
            let without = |line: &String| line.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
            let roots = (after.remove(Path::new("")), expected.remove(Path::new("")));
            assert_eq!(roots.0.as_ref().map(without), roots.1.as_ref().map(without));
        }
        for (path, line) in &expected {
            assert_eq!(after.get(path), Some(line), "{} by {by}", path.display());
        }
        assert_eq!(after.len(), expected.len(), "by {by}");
    }
    let sparse = fs::metadata(scratch.join("ours/sparse"))?;
    let blocks = std::os::unix::fs::MetadataExt::blocks(&sparse);
    assert!(blocks < 4096, "holes became {blocks} blocks");
    Ok(())
}

#[test]
fn what_has_not_changed_is_not_read_again() -> Result<()> {
    let (_scratch, folder, place) = site()?;
    for number in 0..50_u8 {
        fs::write(
            folder.join(format!("f{number}")),
            vec![b'a' + number % 26; 10_000],
        )?;
    }
    let runtime = runtime()?;
    let first = runtime.block_on(back_up(&place, &folder, "u1"))?;
    assert_eq!((first.files, first.unchanged), (50, 0));
    fs::write(folder.join("f7"), "changed")?;
    let second = runtime.block_on(back_up(&place, &folder, "u1"))?;
    assert_eq!((second.files, second.unchanged), (50, 49));
    assert!(second.added < 20_000, "{second:?}");
    // Another volume's snapshot is nobody's parent, and its bytes are stored once all the same.
    let other = runtime.block_on(back_up(&place, &folder, "u2"))?;
    assert_eq!(other.unchanged, 0);
    assert!(other.added < 20_000, "{other:?}");
    restic_ok(&place, &["check", "--read-data"])?;

    // What nobody needs goes; what somebody needs stays.
    let (path, id) = (place.clone(), first.snapshot.clone());
    let pruned = runtime.block_on(apart(move || -> Result<_, RepositoryError> {
        let repository = open(&path)?;
        repository.forget(&[id, "00".repeat(32)])?;
        repository.prune(false)
    }))??;
    assert!(pruned.removed == 0, "packs go a run later: {pruned:?}");
    let path = place.clone();
    let left = runtime.block_on(apart(move || open(&path)?.snapshots()))??;
    assert_eq!(left.len(), 2);
    restic_ok(&place, &["check", "--read-data"])?;
    Ok(())
}

#[test]
fn a_snapshot_whose_backup_is_not_there_is_an_orphan_unless_it_is_somebody_elses() -> Result<()> {
    let (_scratch, folder, place) = site()?;
    fs::write(folder.join("file"), "x")?;
    let runtime = runtime()?;
    let stored = runtime.block_on(back_up(&place, &folder, "u1"))?;
    let path = folder.to_str().context("not UTF-8")?;
    restic_ok(&place, &["backup", "--tag", "backup=b1", path])?;
    let orphans = |known: &'static [&'static str]| {
        let place = place.clone();
        let known = known.iter().map(|name| (*name).to_owned()).collect();
        runtime.block_on(apart(move || open(&place)?.orphans(&known)))
    };
    assert!(orphans(&["b1", "b2"])??.is_empty());
    assert_eq!(orphans(&["b2"])??, [stored.snapshot]);
    Ok(())
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_there() -> Result<()> {
    let (scratch, folder, place) = site()?;
    fs::write(folder.join("good"), "good")?;
    // A directory of /proc has files that refuse to be read, and one that is longer than it says.
    let process = Path::new("/proc/self");
    let runtime = runtime()?;
    let strange = runtime.block_on(back_up(&place, &process.join("attr"), "u0"))?;
    assert!(
        strange.trouble.changed.count > 0 || strange.trouble.unread.count > 0,
        "files that say that they are empty and are not: {strange:?}"
    );
    let stored = runtime.block_on(back_up(&place, &folder, "u1"))?;
    assert_eq!(stored.files, 1);
    let missing = runtime.block_on(back_up(&place, &scratch.join("nowhere"), "u1"));
    let text = format!(
        "{:#}",
        missing
            .err()
            .context("a folder that is not there was backed up")?
    );
    assert!(text.contains("nowhere"), "{text}");
    Ok(())
}

#[test]
fn a_wrong_password_and_damage_are_told_apart() -> Result<()> {
    let (scratch, folder, place) = site()?;
    fs::write(folder.join("file"), vec![7; 100_000])?;
    let runtime = runtime()?;
    let stored = runtime.block_on(back_up(&place, &folder, "u1"))?;
    let path = place.clone();
    let wrong = runtime.block_on(apart(move || {
        Repository::open(files(&path), "wrong", &Handle::current()).map(drop)
    }))?;
    assert!(
        matches!(wrong, Err(RepositoryError::WrongPassword { .. })),
        "{wrong:?}"
    );
    let path = place.clone();
    let none = runtime.block_on(apart(move || {
        open(&path)?
            .restore(
                &"0".repeat(64),
                Target {
                    folder: &path,
                    delete: false,
                    with_owners: true,
                },
            )
            .map(drop)
    }))?;
    assert!(
        matches!(none, Err(RepositoryError::NoSnapshot { .. })),
        "{none:?}"
    );

    let check = |place: &Path| {
        let place = place.to_owned();
        runtime.block_on(apart(move || open(&place)?.check(Depth::Data)))
    };
    assert_eq!(check(&place)??.errors, Vec::<String>::new());
    let mut packs = Vec::new();
    for folder in fs::read_dir(place.join("restic/shop/data"))? {
        for pack in fs::read_dir(folder?.path())? {
            packs.push(pack?.path());
        }
    }
    let pack = packs
        .iter()
        .max_by_key(|pack| fs::metadata(pack).map_or(0, |about| about.len()));
    let pack = pack.context("no packs")?;
    let mut bytes = fs::read(pack)?;
    bytes[20] ^= 1;
    fs::write(pack, bytes)?;
    assert!(!check(&place)??.errors.is_empty(), "a flipped bit was not found");
    let target = scratch.join("target");
    fs::create_dir_all(&target)?;
    let restored = runtime.block_on(restore(&place, &stored.snapshot, &target));
    assert!(restored.is_err(), "damage was restored silently");
    Ok(())
}

#[test]
fn locks_are_those_of_restic() -> Result<()> {
    let (_scratch, folder, place) = site()?;
    fs::write(folder.join("file"), "x")?;
    let runtime = runtime()?;
    runtime.block_on(back_up(&place, &folder, "u1"))?;
    let taken = |mode: Mode| {
        let place = place.clone();
        runtime.block_on(async move {
            let repository = apart(move || open(&place)).await??;
            anyhow::Ok(Lock::take(&repository, mode).await)
        })
    };
    let shared = taken(Mode::Shared)??;
    let beside = taken(Mode::Shared)??;
    let alone = taken(Mode::Exclusive)?;
    assert!(matches!(alone, Err(RepositoryError::Locked { .. })), "{alone:?}");
    // restic's check wants to be alone, and sees ours.
    let checked = restic(&place, &["check"])?;
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    ensure!(
        !checked.status.success() && said.contains("already locked"),
        "{said}"
    );
    runtime.block_on(shared.release())?;
    runtime.block_on(beside.release())?;
    restic_ok(&place, &["check"])?;
    let alone = taken(Mode::Exclusive)??;
    let shared = taken(Mode::Shared)?;
    assert!(
        matches!(shared, Err(RepositoryError::Locked { .. })),
        "{shared:?}"
    );
    let beside = restic(&place, &["snapshots"])?;
    ensure!(!beside.status.success(), "restic reads beside an exclusive lock");
    runtime.block_on(alone.release())?;
    let left = runtime.block_on(files(&place).list("locks/"))?;
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn two_first_writers_make_one_repository() -> Result<()> {
    let (_scratch, folder, place) = site()?;
    fs::write(folder.join("file"), "x")?;
    let runtime = runtime()?;
    let both = runtime.block_on(async {
        let writers = (0..6).map(|_| back_up(&place, &folder, "u1"));
        futures::future::join_all(writers).await
    });
    for stored in both {
        stored?;
    }
    restic_ok(&place, &["check", "--read-data"])?;
    assert_eq!(
        fs::read_dir(place.join("restic/shop/keys"))?.count(),
        1,
        "keys that open nothing"
    );
    Ok(())
}
