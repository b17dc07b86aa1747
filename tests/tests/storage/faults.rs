//! A real server behind a proxy that breaks connections: what comes out is whole, or an error, never less.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backup_engine::location::{Location, S3Location, open_tuned};
use backup_engine::storage::s3::Tuning;
use backup_engine::storage::{Bucket, Put, PutOutcome, StorageError};
use backup_tests::proxy::{Fault, FaultProxy};
use backup_tests::store::Store;
use backup_tests::store::in_process::InProcess;
use bytes::Bytes;
use futures::TryStreamExt;

use crate::subjects::{in_process_at, in_process_server, tuning, versitygw_location};

const SIZE: usize = 3_000_000;

/// A server, a proxy before it, a bucket through the proxy and one past it.
struct Scene {
    proxy: FaultProxy,
    bucket: Arc<dyn Bucket>,
    past: Arc<dyn Bucket>,
    _server: InProcess,
}

impl Scene {
    async fn new() -> Result<Self> {
        Self::tuned(tuning()).await
    }

    async fn tuned(tuning: Tuning) -> Result<Self> {
        let server = in_process_server()?;
        let proxy = FaultProxy::start(server.address()).await?;
        let bucket = in_process_at(proxy.address(), tuning.clone()).await?;
        let past = in_process_at(server.address(), tuning).await?;
        let _ = past.put("k", body(), Put::default()).await?;
        Ok(Self {
            proxy,
            bucket,
            past,
            _server: server,
        })
    }

    async fn read(&self) -> Result<Bytes, StorageError> {
        let Some(stream) = self.bucket.stream("k").await? else {
            return Ok(Bytes::new());
        };
        let chunks: Vec<Bytes> = stream.bytes.try_collect().await?;
        Ok(Bytes::from(chunks.concat()))
    }
}

fn body() -> Bytes {
    (0..SIZE)
        .map(|place| u8::try_from((place / 3) % 256).unwrap_or_default())
        .collect()
}

macro_rules! case {
    ($(async fn $name:ident($scene:ident) $body:block)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result<()> {
                let $scene = Scene::new().await?;
                $body
                Ok(())
            }
        )*
    };
}

case! {
    async fn a_cut_body_is_read_on(scene) {
        scene.proxy.arm(3, Fault::Cut { after: 900_000 });
        assert!(scene.read().await? == body());
        assert_eq!(scene.proxy.used(), 3);
        scene.proxy.arm(2, Fault::Cut { after: 700_000 });
        assert!(scene.bucket.get_range("k", 1_000, 2_000_000).await? == body().slice(1_000..2_001_000));
        assert_eq!(scene.proxy.used(), 2);
    }

    async fn a_body_that_is_always_cut_is_an_error(scene) {
        // The head alone is longer than this, so there is never any progress.
        scene.proxy.arm(1_000, Fault::Cut { after: 20 });
        let error = scene.read().await.expect_err("no answer is ever whole");
        assert!(error.is_transient(), "{error}");
        scene.proxy.arm(1, Fault::Cut { after: 100_000 });
        let stream = scene.bucket.stream("k").await?.context("it is there")?;
        scene.proxy.arm(1_000, Fault::Cut { after: 20 });
        let error = stream.bytes.try_collect::<Vec<_>>().await.expect_err("cut, and then nothing");
        assert!(error.is_transient(), "{error}");
    }

    async fn a_stalled_body_is_read_on(scene) {
        scene.proxy.arm(1, Fault::Stall { after: 900_000 });
        assert!(scene.read().await? == body());
        assert_eq!(scene.proxy.used(), 1);
    }

    async fn a_server_that_always_stalls_ends_with_an_error(scene) {
        let begin = Instant::now();
        let stream = scene.bucket.stream("k").await?.context("it is there")?;
        scene.proxy.arm(1_000, Fault::Stall { after: 600 });
        let error = stream.bytes.try_collect::<Vec<_>>().await.expect_err("stalled");
        assert!(matches!(error, StorageError::Stalled { .. } | StorageError::Cut { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    }

    async fn an_object_replaced_between_two_pieces_is_an_error(scene) {
        scene.proxy.arm(1, Fault::Cut { after: 900_000 });
        let mut stream = scene.bucket.stream("k").await?.context("it is there")?;
        let first = stream.bytes.try_next().await?.context("a first piece")?;
        assert!(!first.is_empty());
        let other: Bytes = body().iter().rev().copied().collect();
        let _ = scene.past.put("k", other, Put::default()).await?;
        let error = stream.bytes.try_collect::<Vec<_>>().await.expect_err("two states spliced together");
        assert!(matches!(error, StorageError::ChangedWhileReading { .. }), "{error}");
    }

    async fn a_busy_server_is_asked_again(scene) {
        scene.proxy.arm(2, Fault::Unavailable);
        assert!(scene.read().await? == body());
        scene.proxy.arm(2, Fault::Unavailable);
        assert!(scene.bucket.put("new", body(), Put::if_absent()).await?.is_stored());
        scene.proxy.arm(2, Fault::Unavailable);
        assert_eq!(scene.bucket.list_all("").await?.len(), 2);
        scene.proxy.arm(2, Fault::Unavailable);
        scene.bucket.delete("new").await?;
        assert!(scene.past.head("new").await?.is_none());
    }

    async fn a_server_that_stays_busy_is_named(scene) {
        scene.proxy.arm(1_000, Fault::Unavailable);
        let error = scene.bucket.list_all("").await.expect_err("busy");
        assert!(matches!(error, StorageError::Busy { .. }), "{error}");
        assert!(error.to_string().contains("SlowDown"), "{error}");
        let error = scene.bucket.put("k2", body(), Put::if_absent()).await.expect_err("busy");
        assert!(matches!(error, StorageError::Busy { .. }), "{error}");
    }

    async fn a_put_if_absent_whose_answer_is_lost_is_still_ours(scene) {
        scene.proxy.arm(1, Fault::LoseAnswer);
        let outcome = scene.bucket.put("claim", Bytes::from_static(b"ours"), Put::if_absent()).await?;
        assert_eq!(scene.proxy.used(), 1);
        assert!(outcome.is_stored(), "{outcome:?}");
        let etag = scene.past.head("claim").await?.context("it is there")?.etag;
        assert_eq!(outcome, PutOutcome::Stored { etag });
        // The very same bytes from somebody else are somebody else's.
        scene.proxy.arm(1, Fault::LoseAnswer);
        let outcome = scene.bucket.put("claim", Bytes::from_static(b"ours"), Put::if_absent()).await?;
        assert_eq!(outcome, PutOutcome::AlreadyThere);
    }

    async fn a_swap_whose_answer_is_lost_is_still_ours(scene) {
        let PutOutcome::Stored { etag } = scene.bucket.put("claim", Bytes::from_static(b"1"), Put::default()).await?
        else {
            anyhow::bail!("an unconditional put is stored");
        };
        scene.proxy.arm(1, Fault::LoseAnswer);
        let outcome = scene.bucket.put("claim", Bytes::from_static(b"2"), Put::if_match(etag)).await?;
        assert!(outcome.is_stored(), "{outcome:?}");
        assert_eq!(scene.proxy.used(), 1);
    }

    async fn a_completed_upload_whose_answer_is_lost_is_still_ours(scene) {
        lose_the_answer_of_a_completion(&scene.proxy, &*scene.bucket).await?;
    }

    async fn an_upload_to_a_server_that_goes_away_is_an_error_and_not_visible(scene) {
        let mut upload = scene.bucket.upload("big", Put::default()).await?;
        scene.proxy.arm(1_000, Fault::Unavailable);
        let mut result = Ok(());
        for _ in 0..6 {
            result = upload.write(Bytes::from(vec![7; 5 * 1024 * 1024])).await;
            if result.is_err() {
                break;
            }
        }
        let error = result.expect_err("nothing can be sent");
        assert!(error.is_transient(), "{error}");
        assert!(scene.past.head("big").await?.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_ends_with_an_error() -> Result<()> {
    let attempt = Duration::from_millis(500);
    let scene = Scene::tuned(Tuning {
        attempt,
        attempts: 2,
        ..tuning()
    })
    .await?;
    scene.proxy.arm(1_000, Fault::Stall { after: 0 });
    let begin = Instant::now();
    for error in [
        scene.bucket.list_all("").await.map(drop).expect_err("silence"),
        scene
            .bucket
            .put("x", Bytes::from_static(b"x"), Put::if_absent())
            .await
            .map(drop)
            .expect_err("silence"),
        scene
            .bucket
            .put("x", Bytes::from_static(b"x"), Put::default())
            .await
            .map(drop)
            .expect_err("silence"),
        scene
            .bucket
            .get("k", 1 << 30)
            .await
            .map(drop)
            .expect_err("silence"),
    ] {
        assert!(matches!(error, StorageError::Stalled { .. }), "{error}");
    }
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    Ok(())
}

async fn lose_the_answer_of_a_completion(proxy: &FaultProxy, bucket: &dyn Bucket) -> Result<()> {
    let mut upload = bucket.upload("big", Put::if_absent()).await?;
    let block = Bytes::from(vec![7; 10 * 1024 * 1024]);
    upload.write(block.clone()).await?;
    // Both parts have arrived; the next connection is the completion's.
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.arm(1, Fault::LoseAnswer);
    let outcome = upload.complete().await?;
    assert!(outcome.is_stored(), "{outcome:?}");
    assert_eq!(proxy.used(), 1);
    assert!(bucket.get("big", 1 << 30).await?.context("it is there")?.0 == block);
    assert_eq!(bucket.list_uploads("").await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_a_strict_server_are_settled_too() -> Result<()> {
    let store = Store::shared_versitygw()?;
    let location = versitygw_location(&store)?;
    let upstream = location
        .endpoint
        .as_deref()
        .context("an endpoint")?
        .trim_start_matches("http://")
        .parse()?;
    let proxy = FaultProxy::start(upstream).await?;
    let location = S3Location {
        endpoint: Some(format!("http://{}", proxy.address())),
        ..location
    };
    let bucket = open_tuned(&Location::S3(Box::new(location)), tuning()).await?;
    lose_the_answer_of_a_completion(&proxy, &*bucket).await?;
    proxy.arm(1, Fault::LoseAnswer);
    let outcome = bucket
        .put("claim", Bytes::from_static(b"ours"), Put::if_absent())
        .await?;
    assert!(outcome.is_stored() && proxy.used() == 1, "{outcome:?}");
    let outcome = bucket
        .put("claim", Bytes::from_static(b"ours"), Put::if_absent())
        .await?;
    assert_eq!(outcome, PutOutcome::AlreadyThere);
    Ok(())
}
