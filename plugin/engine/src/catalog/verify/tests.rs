//! Sound backups are sound; whatever is changed in one is found.

use velero_model::index::Entry;

use super::*;
use crate::catalog::{
    fixture::{Fixture, gz_json, name},
    open::open,
};

/// Positions per file at which a bit is flipped.
const POSITIONS: usize = 300;

async fn check(fixture: &Fixture, of: &str) -> Result<VerifyReport, CatalogError> {
    let open = open(&fixture.bucket(), &name(of)).await?;
    verify(&open, &Arc::default(), &CancellationToken::new()).await
}

async fn problems(fixture: &Fixture, of: &str) -> String {
    let report = check(fixture, of).await.unwrap();
    let lines = report
        .findings
        .iter()
        .map(|found| format!("{:?} {}: {}", found.level, found.what, found.problem));
    lines.collect::<Vec<_>>().join(
        "
",
    )
}

#[tokio::test]
async fn whole_backups_are_sound() {
    let fixture = Fixture::new();
    fixture.ours("ours", 20).await;
    fixture.hold("ours", "audit").await;
    fixture.velero("theirs", 20).await;
    let ours = check(&fixture, "ours").await.unwrap();
    assert_eq!(ours.findings, []);
    assert!(ours.is_sound() && !ours.foreign);
    assert_eq!((ours.checked_members, ours.checked_objects), (8, 20));
    assert_eq!(
        ours.checked_files,
        fixture.keys("backups/ours/").await.len() as u64
    );
    let theirs = check(&fixture, "theirs").await.unwrap();
    assert_eq!(theirs.findings, []);
    assert!(theirs.is_sound() && theirs.foreign);
    assert_eq!((theirs.checked_members, theirs.checked_objects), (0, 20));
}

#[tokio::test]
async fn every_flipped_bit_is_found() {
    let fixture = Fixture::new();
    fixture.ours("b", 12).await;
    // A fixed sequence: a failure can be repeated.
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    for key in fixture.keys("backups/b/").await {
        let whole = fixture.bytes(&key).await;
        for _ in 0..POSITIONS.min(whole.len() * 8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let position = usize::try_from(state >> 33).unwrap() % whole.len();
            let bit = u32::try_from(state >> 20 & 7).unwrap();
            let mut damaged = whole.clone();
            damaged[position] ^= 1 << bit;
            fixture.put(&key, damaged).await;
            match check(&fixture, "b").await {
                Ok(report) => assert!(!report.is_sound(), "bit {bit} of byte {position} of {key}"),
                Err(error) => assert!(
                    error.is_damage(),
                    "bit {bit} of byte {position} of {key}: {error}"
                ),
            }
        }
        fixture.put(&key, whole).await;
    }
    assert!(check(&fixture, "b").await.unwrap().is_sound());
}

#[tokio::test]
async fn missing_cut_and_added_files_are_found() {
    let fixture = Fixture::new();
    fixture.ours("b", 12).await;
    for key in fixture.keys("backups/b/").await {
        if key.ends_with("velero-backup.json") {
            continue;
        }
        let whole = fixture.bytes(&key).await;
        fixture.bucket().delete(&key).await.unwrap();
        let report = check(&fixture, "b").await.unwrap();
        assert!(!report.is_sound(), "without {key}");
        for length in [0, whole.len() / 2, whole.len() - 1] {
            fixture.put(&key, &whole[..length]).await;
            assert!(
                !check(&fixture, "b").await.unwrap().is_sound(),
                "{length} bytes of {key}"
            );
        }
        fixture.put(&key, whole).await;
    }
    fixture.put("backups/b/stranger.txt", "x").await;
    assert!(
        problems(&fixture, "b")
            .await
            .contains("stranger.txt: the digests file does not name it")
    );
}

#[tokio::test]
async fn an_index_that_disagrees_with_the_archive_is_found() {
    type Change = fn(&mut Vec<Entry>);
    for (change, expected) in [
        (
            (|entries| drop(entries.remove(3))) as Change,
            "the index does not name it",
        ),
        (
            |entries| entries[3].name.push('x'),
            "the archive does not hold it",
        ),
        (|entries| entries[3].offset += 1, "another place"),
        (|entries| entries[3].uid = "other".into(), "another UID"),
        (|entries| entries[3].labels.clear(), "other labels"),
    ] {
        let fixture = Fixture::new();
        fixture.assemble("b", 12, change).await;
        let problems = problems(&fixture, "b").await;
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
}

#[tokio::test]
async fn a_foreign_backup_is_checked_as_far_as_it_can_be() {
    let fixture = Fixture::new();
    fixture.velero("b", 12).await;
    let list = "backups/b/b-resource-list.json.gz";
    fixture
        .put(
            list,
            gz_json(&serde_json::json!({"v1/Namespace": ["shop"], "v1/Pod": ["shop/x"], "v1/Y": null})),
        )
        .await;
    let report = check(&fixture, "b").await.unwrap();
    assert!(report.is_sound());
    assert_eq!(report.findings.len(), 2, "{:?}", report.findings);
    assert!(
        report.findings[1]
            .problem
            .contains("names 1 objects of v1/Pod, the archive holds 0")
    );
    fixture.put(list, "no gzip").await;
    assert!(
        problems(&fixture, "b")
            .await
            .contains("Damage backups/b/b-resource-list.json.gz")
    );
    let key = "backups/b/b.tar.gz";
    let whole = fixture.bytes(key).await;
    for length in [0, 100, whole.len() - 1] {
        fixture.put(key, &whole[..length]).await;
        assert!(!check(&fixture, "b").await.unwrap().is_sound(), "{length} bytes");
    }
    fixture.bucket().delete(key).await.unwrap();
    assert!(problems(&fixture, "b").await.contains("b.tar.gz is missing"));
}

#[tokio::test]
async fn an_interrupted_check_says_so() {
    let fixture = Fixture::new();
    fixture.ours("b", 5).await;
    let open = open(&fixture.bucket(), &name("b")).await.unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = verify(&open, &Arc::default(), &cancel).await.unwrap_err();
    assert!(matches!(error, CatalogError::Interrupted), "{error}");
}
