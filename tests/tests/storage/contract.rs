//! The contract of a location, case by case, on each kind of location.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use backup_engine::storage::probe::{self, Outcome};
use backup_engine::storage::{Bucket, Etag, Put, PutOutcome, StorageError, delete_all};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::subjects::Subject;

/// Each case on each kind of location, as a test of its own.
macro_rules! bucket_contract {
    ($($case:ident),* $(,)?) => {
        bucket_contract!(@on memory: $($case),*);
        bucket_contract!(@on folder: $($case),*);
        bucket_contract!(@on in_process: $($case),*);
        bucket_contract!(@on versitygw: $($case),*);
    };
    (@on $kind:ident: $($case:ident),*) => {
        mod $kind {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() -> anyhow::Result<()> {
                    let subject = crate::subjects::Subject::$kind().await?;
                    super::$case(&subject).await
                }
            )*
        }
    };
}

bucket_contract!(
    stores_and_returns_bytes,
    missing_keys_are_not_errors,
    lists_over_many_pages,
    lists_by_prefix_not_by_folder,
    reads_ranges_exactly,
    put_if_absent_keeps_the_first,
    put_if_absent_has_one_winner,
    put_if_match_swaps_once,
    deferred_puts_are_there_and_settle,
    uploads_of_any_size_come_back,
    an_aborted_upload_leaves_nothing,
    a_dropped_upload_leaves_nothing,
    a_refused_upload_leaves_nothing,
    a_killed_upload_is_found_and_removed,
    odd_keys_survive,
    a_body_over_the_limit_is_refused,
    deletes_many_and_twice,
    passes_its_own_check,
);

/// Bytes that differ at every place, so that a shifted or repeated block shows.
fn pattern(length: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

async fn store(bucket: &dyn Bucket, key: &str, body: &[u8]) -> Result<Etag> {
    match bucket
        .put(key, Bytes::copy_from_slice(body), Put::default())
        .await?
    {
        PutOutcome::Stored { etag } => Ok(etag),
        other => anyhow::bail!("{key}: {other:?}"),
    }
}

async fn keys(bucket: &dyn Bucket, prefix: &str) -> Result<Vec<String>> {
    Ok(bucket
        .list_all(prefix)
        .await?
        .into_iter()
        .map(|object| object.key)
        .collect())
}

async fn read(bucket: &dyn Bucket, key: &str) -> Result<Bytes> {
    let stream = bucket
        .stream(key)
        .await?
        .with_context(|| format!("{key} is not there"))?;
    let chunks: Vec<Bytes> = stream.bytes.try_collect().await?;
    let body = Bytes::from(chunks.concat());
    assert_eq!(body.len() as u64, stream.size, "{key}");
    Ok(body)
}

async fn stores_and_returns_bytes(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    for (key, length) in [
        ("backups/a/empty", 0),
        ("backups/a/one", 1),
        ("backups/a/many", 300_000),
    ] {
        let body = pattern(length);
        let etag = store(bucket, key, &body).await?;
        let (got, got_etag) = bucket.get(key, 1 << 20).await?.context("it is there")?;
        assert_eq!(got, body, "{key}");
        assert_eq!(got_etag, etag, "{key}");
        assert_eq!(read(bucket, key).await?, body, "{key}");
        let info = bucket.head(key).await?.context("it is there")?;
        assert_eq!(
            (info.key.as_str(), info.size, &info.etag),
            (key, length as u64, &etag)
        );
    }
    // Overwriting changes bytes and mark.
    let before = bucket.head("backups/a/one").await?.context("it is there")?.etag;
    let after = store(bucket, "backups/a/one", b"two").await?;
    assert_ne!(before, after);
    assert_eq!(read(bucket, "backups/a/one").await?, Bytes::from_static(b"two"));
    Ok(())
}

async fn missing_keys_are_not_errors(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    store(bucket, "backups/a/file", b"x").await?;
    for key in [
        "nothing",
        "backups",
        "backups/a",
        "backups/a/fil",
        "backups/a/file2",
    ] {
        if "backups/a".starts_with(key) && !subject.knows_folders {
            continue;
        }
        assert!(bucket.get(key, 10).await?.is_none(), "{key}");
        assert!(bucket.head(key).await?.is_none(), "{key}");
        assert!(bucket.stream(key).await?.is_none(), "{key}");
        bucket.delete(key).await?;
        let error = bucket.get_range(key, 0, 1).await.expect_err(key);
        assert!(matches!(error, StorageError::NoSuchKey { .. }), "{key}: {error}");
    }
    assert_eq!(keys(bucket, "").await?, ["backups/a/file"]);
    assert!(keys(bucket, "restores/").await?.is_empty());
    assert!(bucket.list_folders("restores/").await?.is_empty());
    Ok(())
}

async fn lists_over_many_pages(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    let expected: BTreeSet<String> = (0..1_100).map(|n| format!("many/{:02}/k{n}", n % 7)).collect();
    let puts = futures::stream::iter(&expected).map(|key| store(bucket, key, b"x"));
    puts.buffer_unordered(16).try_collect::<Vec<_>>().await?;
    assert_eq!(
        keys(bucket, "many/").await?,
        expected.iter().cloned().collect::<Vec<_>>()
    );
    assert_eq!(bucket.list("many/").count().await, 1_100);
    assert_eq!(
        bucket.list_folders("many/").await?,
        ["00", "01", "02", "03", "04", "05", "06"]
    );
    assert_eq!(bucket.list_folders("").await?, ["many"]);
    Ok(())
}

async fn lists_by_prefix_not_by_folder(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    for key in [
        "backups/a/x",
        "backups/ab/y",
        "backups/a-b/z",
        "backups/b",
        "restores/r/l",
    ] {
        store(bucket, key, b"x").await?;
    }
    assert_eq!(
        keys(bucket, "backups/a").await?,
        ["backups/a-b/z", "backups/a/x", "backups/ab/y"]
    );
    assert_eq!(keys(bucket, "backups/a/").await?, ["backups/a/x"]);
    assert_eq!(keys(bucket, "backups/b").await?, ["backups/b"]);
    assert_eq!(bucket.list_folders("backups/").await?, ["a", "a-b", "ab"]);
    assert_eq!(bucket.list_folders("").await?, ["backups", "restores"]);
    bucket.delete("restores/r/l").await?;
    assert_eq!(
        bucket.list_folders("").await?,
        ["backups"],
        "a folder without keys does not show"
    );
    Ok(())
}

async fn reads_ranges_exactly(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    let body = pattern(200_000);
    store(bucket, "k", &body).await?;
    for (offset, length) in [
        (0, 1),
        (0, 200_000),
        (199_999, 1),
        (65_535, 70_000),
        (5, 0),
        (200_000, 0),
    ] {
        let part = bucket.get_range("k", offset, length).await?;
        let begin = usize::try_from(offset)?;
        assert_eq!(
            part,
            body.slice(begin..begin + usize::try_from(length)?),
            "{offset}+{length}"
        );
    }
    for (offset, length) in [(199_999, 2), (200_000, 1), (500_000, 1), (0, 200_001)] {
        let error = bucket
            .get_range("k", offset, length)
            .await
            .expect_err("a short read");
        assert!(
            matches!(error, StorageError::Cut { .. }),
            "{offset}+{length}: {error}"
        );
    }
    Ok(())
}

async fn put_if_absent_keeps_the_first(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    let put = async |body: &'static [u8]| {
        bucket
            .put("backups/n/claim", Bytes::from_static(body), Put::if_absent())
            .await
    };
    assert!(put(b"first").await?.is_stored());
    assert_eq!(put(b"second").await?, PutOutcome::AlreadyThere);
    assert_eq!(
        read(bucket, "backups/n/claim").await?,
        Bytes::from_static(b"first")
    );
    bucket.delete("backups/n/claim").await?;
    assert!(put(b"third").await?.is_stored());
    Ok(())
}

async fn put_if_absent_has_one_winner(subject: &Subject) -> Result<()> {
    if !subject.decides_races {
        return Ok(());
    }
    for round in 0..4 {
        let key = format!("backups/race-{round}/claim");
        let writers = (0..16).map(|writer| {
            let (bucket, key) = (subject.bucket.clone(), key.clone());
            tokio::spawn(async move {
                let body = Bytes::from(format!("writer {writer}"));
                bucket
                    .put(&key, body, Put::if_absent())
                    .await
                    .map(|outcome| (writer, outcome))
            })
        });
        let outcomes = futures::future::try_join_all(writers).await?;
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
        let winners: Vec<_> = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.is_stored())
            .collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        let expected = Bytes::from(format!("writer {}", winners[0].0));
        assert_eq!(
            read(&*subject.bucket, &key).await?,
            expected,
            "the winner's bytes stay"
        );
    }
    Ok(())
}

async fn put_if_match_swaps_once(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    let swap = async |etag: &Etag, body: &'static [u8]| {
        bucket
            .put("claim", Bytes::from_static(body), Put::if_match(etag.clone()))
            .await
    };
    let first = store(bucket, "claim", b"first").await?;
    let PutOutcome::Stored { etag: second } = swap(&first, b"second").await? else {
        anyhow::bail!("the first swap is good");
    };
    assert_eq!(swap(&first, b"late").await?, PutOutcome::Changed);
    assert!(swap(&second, b"third").await?.is_stored());
    assert_eq!(read(bucket, "claim").await?, Bytes::from_static(b"third"));
    bucket.delete("claim").await?;
    assert_eq!(swap(&second, b"fourth").await?, PutOutcome::Changed);
    assert!(bucket.head("claim").await?.is_none());
    Ok(())
}

async fn deferred_puts_are_there_and_settle(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    bucket.settle().await?;
    let put = async |body: &'static [u8]| {
        let put = Put::if_absent().deferred();
        bucket.put("backups/d/one", Bytes::from_static(body), put).await
    };
    assert!(put(b"first").await?.is_stored());
    assert_eq!(put(b"second").await?, PutOutcome::AlreadyThere);
    let mut upload = bucket
        .upload("backups/d/deep/two", Put::if_absent().deferred())
        .await?;
    upload.write(pattern(300_000)).await?;
    assert!(upload.complete().await?.is_stored());
    // There before they are settled, and after.
    for _ in 0..2 {
        assert_eq!(read(bucket, "backups/d/one").await?, Bytes::from_static(b"first"));
        assert_eq!(read(bucket, "backups/d/deep/two").await?, pattern(300_000));
        bucket.settle().await?;
    }
    // Gone before it is settled: nothing to wait for.
    assert!(
        bucket
            .put("backups/e/x", Bytes::from_static(b"x"), Put::default().deferred())
            .await?
            .is_stored()
    );
    bucket.delete("backups/e/x").await?;
    Ok(bucket.settle().await?)
}

async fn uploads_of_any_size_come_back(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    let part = 5 * 1024 * 1024;
    for (length, parts) in [(0, 0), (10, 0), (part, 1), (part + 1, 2), (3 * part + 123, 4)] {
        let key = format!("backups/u/{length}");
        let body = pattern(length);
        let mut upload = bucket.upload(&key, Put::if_absent()).await?;
        // Pieces that fit neither parts nor pages.
        for piece in body.chunks(777_777) {
            upload.write(Bytes::copy_from_slice(piece)).await?;
            assert!(bucket.head(&key).await?.is_none(), "{key} is not visible yet");
        }
        let PutOutcome::Stored { etag } = upload.complete().await? else {
            anyhow::bail!("{key} is new")
        };
        assert!(read(bucket, &key).await? == body, "{key}: the bytes differ");
        assert_eq!(bucket.head(&key).await?.context("it is there")?.etag, etag);
        if subject.is_s3 && parts > 1 {
            // S3's mark of a multipart object ends in the number of its parts: equal ones, and a last one.
            assert!(
                etag.as_str()
                    .trim_end_matches('"')
                    .ends_with(&format!("-{parts}")),
                "{key}: {etag}"
            );
        }
    }
    Ok(())
}

/// Waits until nothing is left of an upload; a dropped one is cleaned up in the background.
async fn expect_nothing(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    for _ in 0..100 {
        if bucket.list_uploads("").await?.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bucket.list_uploads("").await?, []);
    assert!(keys(bucket, "").await?.is_empty());
    assert!(bucket.list_folders("").await?.is_empty());
    Ok(())
}

async fn begun(subject: &Subject, put: Put) -> Result<Box<dyn backup_engine::storage::Upload>> {
    let mut upload = subject.bucket.upload("backups/b/b.tar.gz", put).await?;
    upload.write(pattern(11 * 1024 * 1024)).await?;
    Ok(upload)
}

async fn an_aborted_upload_leaves_nothing(subject: &Subject) -> Result<()> {
    begun(subject, Put::default()).await?.abort().await?;
    expect_nothing(subject).await
}

async fn a_dropped_upload_leaves_nothing(subject: &Subject) -> Result<()> {
    drop(begun(subject, Put::default()).await?);
    expect_nothing(subject).await
}

async fn a_refused_upload_leaves_nothing(subject: &Subject) -> Result<()> {
    let upload = begun(subject, Put::if_absent()).await?;
    store(&*subject.bucket, "backups/b/b.tar.gz", b"somebody else").await?;
    assert_eq!(upload.complete().await?, PutOutcome::AlreadyThere);
    assert_eq!(
        read(&*subject.bucket, "backups/b/b.tar.gz").await?,
        Bytes::from_static(b"somebody else")
    );
    subject.bucket.delete("backups/b/b.tar.gz").await?;
    expect_nothing(subject).await
}

async fn a_killed_upload_is_found_and_removed(subject: &Subject) -> Result<()> {
    if !subject.knows_uploads {
        return Ok(());
    }
    std::mem::forget(begun(subject, Put::default()).await?);
    let bucket = &*subject.bucket;
    assert!(keys(bucket, "").await?.is_empty(), "nothing is visible");
    assert!(bucket.list_uploads("restores/").await?.is_empty());
    let open = bucket.list_uploads("backups/b/").await?;
    assert_eq!(
        open.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(),
        ["backups/b/b.tar.gz"]
    );
    // A forgotten upload may still have parts on their way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    bucket.abort_upload(&open[0]).await?;
    bucket.abort_upload(&open[0]).await?;
    expect_nothing(subject).await
}

async fn odd_keys_survive(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    let mut odd = vec![
        "odd/blank in name",
        "odd/plus+percent%20and%25",
        "odd/ünï/日本語",
        "odd/quote'\"&<>;",
        "odd/equals=and?question#hash",
        "odd/~!@$^*(){}[]|,:",
        "odd/.hidden",
        "odd/...",
        "odd/name.partial",
    ];
    odd.sort_unstable();
    for key in &odd {
        store(bucket, key, key.as_bytes())
            .await
            .with_context(|| (*key).to_owned())?;
    }
    assert_eq!(keys(bucket, "odd/").await?, odd);
    for key in &odd {
        assert_eq!(read(bucket, key).await?, key.as_bytes(), "{key}");
        bucket.delete(key).await?;
        assert!(bucket.head(key).await?.is_none(), "{key}");
    }
    assert!(keys(bucket, "").await?.is_empty());
    let error = bucket
        .put("", Bytes::new(), Put::default())
        .await
        .expect_err("an empty key");
    assert!(matches!(error, StorageError::BadKey { .. }), "{error}");
    Ok(())
}

async fn a_body_over_the_limit_is_refused(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    store(bucket, "k", &pattern(1_001)).await?;
    let error = bucket.get("k", 1_000).await.expect_err("over the limit");
    assert!(
        matches!(
            error,
            StorageError::TooLarge {
                size: 1_001,
                limit: 1_000,
                ..
            }
        ),
        "{error}"
    );
    assert!(bucket.get("k", 1_001).await?.is_some());
    Ok(())
}

async fn deletes_many_and_twice(subject: &Subject) -> Result<()> {
    let bucket = &*subject.bucket;
    for n in 0..40 {
        store(bucket, &format!("d/{n}"), b"x").await?;
    }
    store(bucket, "kept", b"x").await?;
    let doomed = keys(bucket, "d/").await?;
    assert_eq!(doomed.len(), 40);
    for _ in 0..2 {
        let errors = delete_all(bucket, doomed.clone()).await;
        assert!(errors.is_empty(), "{errors:?}");
    }
    assert_eq!(keys(bucket, "").await?, ["kept"]);
    Ok(())
}

async fn passes_its_own_check(subject: &Subject) -> Result<()> {
    let checks = probe::check(&*subject.bucket).await;
    let bad: Vec<_> = checks
        .iter()
        .filter(|check| check.outcome != Outcome::Passed)
        .collect();
    assert!(bad.is_empty() && checks.len() == 8, "{bad:?}");
    assert!(probe::conditional_writes_work(&*subject.bucket).await?);
    expect_nothing(subject).await
}
