//! Out of one location into a file, and out of the file into another location.

use super::*;
use crate::catalog::{
    fixture::{Fixture, name},
    open, verify,
};

async fn export(fixture: &Fixture, of: &str, target: &Path) -> Result<PathBuf, CatalogError> {
    let open = open(&fixture.bucket(), &name(of)).await.unwrap();
    download(&open, target, &Arc::default(), &CancellationToken::new())
        .await
        .map(|(path, _)| path)
}

async fn bring(file: &Path, fixture: &Fixture) -> Result<CopySummary, CatalogError> {
    import(
        file,
        &fixture.bucket(),
        &Arc::default(),
        &CancellationToken::new(),
    )
    .await
}

fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, data) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        // Written raw: the writer itself would refuse hostile paths.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

#[tokio::test]
async fn a_backup_travels_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let long = "n".repeat(200);
    for (of, is_ours) in [("b", true), ("v", false), (long.as_str(), true)] {
        let (from, to) = (Fixture::new(), Fixture::new());
        if is_ours {
            from.ours(of, 20).await;
        } else {
            from.velero(of, 20).await;
        }
        from.hold(of, "audit").await;
        let path = export(&from, of, folder.path()).await.unwrap();
        assert_eq!(path, folder.path().join(format!("{of}.tar")));
        let summary = bring(&path, &to).await.unwrap();
        assert_eq!((summary.verified, summary.name.as_str()), (is_ours, of));
        assert_eq!(to.keys("").await, from.keys("").await);
        let open = open(&to.bucket(), &name(of)).await.unwrap();
        assert!(
            verify(&open, &Arc::default(), &CancellationToken::new())
                .await
                .unwrap()
                .is_sound()
        );
        assert!(open.notes().hold.is_some());
        assert!(matches!(
            bring(&path, &to).await,
            Err(CatalogError::Exists { .. })
        ));
        assert!(
            matches!(export(&from, of, &path).await, Err(CatalogError::Local { .. })),
            "nothing is overwritten"
        );
    }
}

#[tokio::test]
async fn a_damaged_source_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    fixture.ours("b", 20).await;
    let key = "backups/b/b.tar.gz";
    let mut damaged = fixture.bytes(key).await;
    damaged[100] ^= 1;
    fixture.put(key, damaged).await;
    let error = export(&fixture, "b", folder.path()).await.unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_damaged_file_imports_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    fixture.ours("b", 20).await;
    let path = export(&fixture, "b", folder.path()).await.unwrap();
    let whole = fs::read(&path).unwrap();
    for position in (600..whole.len() - 1024).step_by(997) {
        let mut damaged = whole.clone();
        damaged[position] ^= 4;
        fs::write(&path, damaged).unwrap();
        let to = Fixture::new();
        // Padding and header fields without meaning (owner, times) may differ; then the result must be the backup.
        match bring(&path, &to).await {
            Err(_) => assert!(to.keys("").await.is_empty(), "byte {position}"),
            Ok(_) => assert_eq!(
                to.bytes("backups/b/b.tar.gz").await,
                fixture.bytes("backups/b/b.tar.gz").await
            ),
        }
    }
    for length in [0, 100, whole.len() / 3, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        let to = Fixture::new();
        assert!(bring(&path, &to).await.is_err(), "{length} bytes");
        assert!(to.keys("").await.is_empty());
    }
}

#[tokio::test]
async fn hostile_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    let marker = br#"{"apiVersion":"velero.io/v1","kind":"Backup","metadata":{"name":"b"}}"#.as_slice();
    let good = ("backups/b/velero-backup.json", marker);
    let tarball = ("backups/b/b.tar.gz", b"x".as_slice());
    for entries in [
        vec![],
        vec![good],
        vec![tarball],
        vec![good, tarball, ("backups/../x", b"".as_slice())],
        vec![good, tarball, ("/etc/passwd", b"".as_slice())],
        vec![good, tarball, ("backups/b/../../x", b"".as_slice())],
        vec![good, tarball, ("backups/b/deep/x", b"".as_slice())],
        vec![good, tarball, ("backups/c/x", b"".as_slice())],
        vec![good, tarball, tarball],
        vec![
            ("backups/c/velero-backup.json", marker),
            ("backups/c/c.tar.gz", b"x".as_slice()),
        ],
    ] {
        fs::write(&path, tar_of(&entries)).unwrap();
        let to = Fixture::new();
        assert!(
            bring(&path, &to).await.is_err(),
            "{:?}",
            entries.iter().map(|entry| entry.0).collect::<Vec<_>>()
        );
        assert!(to.keys("").await.is_empty());
    }
    fs::write(&path, tar_of(&[good, tarball])).unwrap();
    assert!(bring(&path, &Fixture::new()).await.is_ok());
}
