//! `download`, `import`, `copy` and `verify`.

use std::fs::{self, File};

use anyhow::{Context, Result};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::json;

use crate::site::{Site, files, names, stores};

#[test]
fn a_backup_goes_through_a_file_into_another_location() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    let bucket = Store::shared_versitygw()?;
    let tar = site.plugin.home().join("b.tar");
    site.plugin
        .run(["download", "b"])?
        .ok()
        .stdout_has("every digest compared");
    let mut archive = tar::Archive::new(File::open(&tar)?);
    let entries: Vec<String> = archive
        .entries()?
        .map(|entry| Ok(entry?.path()?.to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    assert!(
        entries
            .last()
            .is_some_and(|path| path.ends_with("velero-backup.json")),
        "{entries:?}"
    );
    site.plugin.run(["download", "b"])?.exits(4).stderr_has("b.tar");

    let elsewhere = Plugin::bare()?.with_store(&bucket);
    let file = tar.to_str().context("UTF-8")?;
    elsewhere
        .run(["import", file])?
        .ok()
        .stdout_has("imported into s3://");
    assert_eq!(files(&site.store, "b")?, files(&bucket, "b")?);
    elsewhere.run(["verify", "b"])?.ok();
    elsewhere.run(["import", file])?.exits(4).stderr_has("already");
    // An administrator without a cluster reads it there.
    elsewhere
        .run(["cat", "b", "cm/prices"])?
        .ok()
        .stdout_has("of: web");

    let folder = site.plugin.home().join("stick");
    fs::create_dir(&folder)?;
    let moved = elsewhere.json(["download", "b", folder.to_str().context("UTF-8")?])?;
    assert_eq!(
        (&moved["kind"], &moved["verified"]),
        (&json!("Transfer"), &json!(true))
    );
    assert_eq!(fs::read(folder.join("b.tar"))?, fs::read(&tar)?);
    Ok(())
}

#[test]
fn a_damaged_file_is_not_imported() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    site.plugin.run(["download", "b"])?.ok();
    let sound = fs::read(site.plugin.home().join("b.tar"))?;
    let mut flipped = sound.clone();
    // In the body of the archive: behind the block in which its name stands.
    let name = sound
        .windows(8)
        .position(|bytes| bytes == b"b.tar.gz")
        .context("the archive")?;
    flipped[name / 512 * 512 + 512 + 20] ^= 4;
    for store in stores()? {
        let elsewhere = Plugin::bare()?.with_store(&store);
        for (name, bytes, said) in [
            // What the half falls on, a file or the header of one, differs with the sizes of the files.
            ("cut", &sound[..sound.len() / 2], "cut.tar cannot be imported: "),
            ("cut-before-the-end", &sound[..sound.len() - 2048], "it is cut in"),
            ("flipped", &flipped, "is damaged"),
            ("empty", &[], "it is empty"),
            ("no-archive", b"some text", "no whole tar file"),
        ] {
            let file = elsewhere.home().join(format!("{name}.tar"));
            fs::write(&file, bytes)?;
            let ran = elsewhere
                .run(["import", file.to_str().context("UTF-8")?])?
                .exits(1);
            assert!(ran.stderr.contains(said), "{name}: {ran}");
            assert!(store.keys()?.is_empty(), "{name}: {:?}", store.keys()?);
        }
        elsewhere
            .run(["import", "no-such-file.tar"])?
            .exits(5)
            .stderr_has("no-such-file.tar");
    }
    Ok(())
}

#[test]
fn copies_are_the_same_bytes() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    site.back_up("c")?;
    let (bucket, last) = (Store::shared_versitygw()?, Store::folder()?);
    let plugin = Plugin::bare()?.with_store(&bucket);
    let from_folder = site.store.location_url();
    let copied = plugin.json([
        "copy",
        "b",
        "c",
        "--location",
        &from_folder,
        "--to",
        &bucket.location_url(),
    ])?;
    assert_eq!(crate::site::fields(&copied, "name"), ["b", "c"]);
    plugin
        .run(["copy", "c", "--to", &last.location_url()])?
        .ok()
        .stdout_has("every digest compared");
    assert_eq!(files(&site.store, "b")?, files(&bucket, "b")?);
    assert_eq!(files(&site.store, "c")?, files(&last, "c")?);
    assert_eq!(
        last.keys()?.len(),
        files(&last, "c")?.len(),
        "nothing but the backup"
    );
    plugin.run(["verify", "b", "c"])?.ok();
    plugin
        .run(["copy", "c", "--to", &last.location_url()])?
        .exits(4)
        .stderr_has("already");
    plugin
        .run(["copy", "gone", "--to", &last.location_url()])?
        .exits(5)
        .stderr_has("gone");
    plugin.run(["copy", "c"])?.exits(2).stderr_has("--to");
    plugin
        .run(["list", "--location", &last.location_url(), "-o", "name"])?
        .ok()
        .stdout_has("backup/c");
    Ok(())
}

#[test]
fn a_damaged_backup_is_not_copied() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    let file = site.file("b", "b.tar.gz");
    let mut bytes = fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes)?;
    for store in stores()? {
        let plugin = Plugin::bare()?.with_store(&store);
        let from = site.store.location_url();
        plugin
            .run(["copy", "b", "--location", &from, "--to", &store.location_url()])?
            .exits(1)
            .stderr_has("b.tar.gz");
        assert!(store.keys()?.is_empty(), "{:?}", store.keys()?);
    }
    site.plugin
        .run(["download", "b"])?
        .exits(1)
        .stderr_has("b.tar.gz");
    let left: Vec<_> = fs::read_dir(site.plugin.home())?.collect::<Result<_, _>>()?;
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("tar")),
        "{left:?}"
    );
    Ok(())
}

#[test]
fn one_flipped_bit_in_any_file_is_found() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    let report = site.plugin.json(["verify", "b"])?;
    assert_eq!(
        (&report["kind"], &report["sound"], &report["findings"]),
        (&json!("VerifyReport"), &json!(true), &json!([]))
    );
    let objects = site.plugin.json(["contents", "b"])?["items"]
        .as_array()
        .map(Vec::len);
    assert_eq!(report["checkedObjects"], json!(objects));
    for (key, sound) in files(&site.store, "b")? {
        let file = site.store.path().join(&key);
        for place in [sound.len() / 3, sound.len() - 2] {
            let mut damaged = sound.clone();
            damaged[place] ^= 0x04;
            fs::write(&file, &damaged)?;
            let ran = site.plugin.run(["verify", "b"])?;
            assert_eq!(ran.code, 1, "bit 2 of byte {place} of {key}: {ran}");
        }
        fs::write(&file, &sound)?;
    }
    site.plugin.run(["verify", "b"])?.ok().stdout_has("is sound");
    Ok(())
}

#[test]
fn a_missing_and_a_foreign_file_are_told() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "b")?;
        site.back_up("c")?;
        fs::remove_file(site.file("b", "b-resource-list.json.gz"))?;
        let ran = site.plugin.run(["verify", "b", "c"])?.exits(1);
        let ran = ran
            .stdout_has("b-resource-list.json.gz")
            .stdout_has("backup b is damaged");
        ran.stdout_has("backup c is sound");
        site.plugin.run(["verify", "gone"])?.exits(5);
        let ran = site.plugin.run(["list", "-o", "name"])?.ok();
        assert_eq!(names(&ran.stdout).len(), 2);
    }
    Ok(())
}
