//! Lists of a bucket, over all pages.
//!
//! Keys are taken as they come. Asking for them URL-encoded would carry control characters too, which no backup has in
//! its keys, but there are servers that say they encode and do not, and then a `+` or `%` in a key turns into another
//! key. A server that repeats itself ends the list with an error instead of a loop.

use futures::stream::{BoxStream, StreamExt, TryStreamExt};

use super::super::bucket::{Etag, ObjectInfo, ObjectVersion, OpenUpload};
use super::super::error::{At, StorageError};
use super::S3;
use super::error::{Answer, sort};
use super::write::timestamp;

impl S3 {
    pub(super) fn list_objects(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo, StorageError>> {
        let state = Some((self.clone(), prefix.to_owned(), None));
        futures::stream::try_unfold(state, |state| async move {
            let Some((bucket, prefix, token)) = state else {
                return Ok(None);
            };
            let (page, next) = bucket.object_page(&prefix, token).await?;
            let state = next.map(|token| (bucket, prefix, Some(token)));
            Ok::<_, StorageError>(Some((futures::stream::iter(page.into_iter().map(Ok)), state)))
        })
        .try_flatten()
        .boxed()
    }

    async fn object_page(
        &self,
        prefix: &str,
        token: Option<String>,
    ) -> Result<(Vec<ObjectInfo>, Option<String>), StorageError> {
        let at = self.at("list", prefix);
        let answer = self
            .clients()
            .retrying
            .list_objects_v2()
            .bucket(self.bucket_name())
            .prefix(self.full_key(prefix))
            .set_max_keys(self.tuning().page_size)
            .set_continuation_token(token.clone())
            .send()
            .await
            .map_err(|error| sort(at.clone(), &error))?;
        let mut page = Vec::new();
        for object in answer.contents() {
            let Some(key) = self.own_key(object.key().unwrap_or_default()) else {
                continue;
            };
            // Folder markers of web consoles are not objects of ours.
            if key.is_empty() || key.ends_with('/') {
                continue;
            }
            page.push(ObjectInfo {
                key,
                size: size(object.size()),
                modified: object.last_modified().and_then(timestamp),
                etag: Etag::new(object.e_tag().unwrap_or_default()),
            });
        }
        let next = answer.next_continuation_token().map(ToOwned::to_owned);
        let more = answer.is_truncated().unwrap_or(false);
        Ok((page, next_page(at, more, token.as_ref(), next)?))
    }

    pub(super) async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let at = self.at("list", prefix);
        let mut names = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let answer = self
                .clients()
                .retrying
                .list_objects_v2()
                .bucket(self.bucket_name())
                .prefix(self.full_key(prefix))
                .delimiter("/")
                .set_max_keys(self.tuning().page_size)
                .set_continuation_token(token.clone())
                .send()
                .await
                .map_err(|error| sort(at.clone(), &error))?;
            let keys = answer
                .common_prefixes()
                .iter()
                .filter_map(|common| common.prefix());
            let keys = keys.filter_map(|key| self.own_key(key));
            names.extend(keys.filter_map(|key| {
                Some(key.strip_prefix(prefix)?.strip_suffix('/')?.to_owned()).filter(|name| !name.is_empty())
            }));
            let next = answer.next_continuation_token().map(ToOwned::to_owned);
            let more = answer.is_truncated().unwrap_or(false);
            token = next_page(at.clone(), more, token.as_ref(), next)?;
            if token.is_none() {
                names.sort_unstable();
                names.dedup();
                return Ok(names);
            }
        }
    }

    pub(super) async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StorageError> {
        let at = self.at("list versions in", prefix);
        all_pages(&at, |marker: Option<Marker>| async {
            let (key, version) = marker.unzip();
            let request = self
                .clients()
                .retrying
                .list_object_versions()
                .bucket(self.bucket_name())
                .prefix(self.full_key(prefix))
                .set_key_marker(key)
                .set_version_id_marker(version.flatten());
            let answer = request.send().await.map_err(|error| sort(at.clone(), &error))?;
            let objects = answer.versions().iter().filter_map(|version| {
                Some(ObjectVersion {
                    key: self.own_key(version.key().unwrap_or_default())?,
                    version: version.version_id().unwrap_or_default().to_owned(),
                    is_latest: version.is_latest().unwrap_or(false),
                    is_delete_marker: false,
                    size: size(version.size()),
                    modified: version.last_modified().and_then(timestamp),
                })
            });
            let deletions = answer.delete_markers().iter().filter_map(|marker| {
                Some(ObjectVersion {
                    key: self.own_key(marker.key().unwrap_or_default())?,
                    version: marker.version_id().unwrap_or_default().to_owned(),
                    is_latest: marker.is_latest().unwrap_or(false),
                    is_delete_marker: true,
                    size: 0,
                    modified: marker.last_modified().and_then(timestamp),
                })
            });
            let next = marker_of(answer.next_key_marker(), answer.next_version_id_marker());
            let more = answer.is_truncated().unwrap_or(false);
            Ok((objects.chain(deletions).collect(), more, next))
        })
        .await
    }

    pub(super) async fn uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StorageError> {
        let at = self.at("list uploads in", prefix);
        all_pages(&at, |marker: Option<Marker>| async {
            let (key, id) = marker.unzip();
            let request = self
                .clients()
                .retrying
                .list_multipart_uploads()
                .bucket(self.bucket_name())
                .prefix(self.full_key(prefix))
                .set_key_marker(key)
                .set_upload_id_marker(id.flatten());
            let answer = request.send().await.map_err(|error| sort(at.clone(), &error))?;
            let uploads = answer.uploads().iter().filter_map(|upload| {
                let key = self.own_key(upload.key().unwrap_or_default())?;
                // Some stores ignore the prefix here.
                key.starts_with(prefix).then(|| OpenUpload {
                    key,
                    id: upload.upload_id().unwrap_or_default().to_owned(),
                    started: upload.initiated().and_then(timestamp),
                })
            });
            let next = marker_of(answer.next_key_marker(), answer.next_upload_id_marker());
            let more = answer.is_truncated().unwrap_or(false);
            Ok((uploads.collect(), more, next))
        })
        .await
    }

    /// A key of the bucket as a key of this location; `None` if it lies elsewhere.
    fn own_key(&self, key: &str) -> Option<String> {
        key.strip_prefix(self.prefix()).map(ToOwned::to_owned)
    }
}

fn size(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}

/// Where a page of versions or uploads begins: after this key, and within the key after this version or upload.
type Marker = (String, Option<String>);

/// What is on one page, whether the server says that there is more, and where.
type Page<T> = (Vec<T>, bool, Option<Marker>);

fn marker_of(key: Option<&str>, within: Option<&str>) -> Option<Marker> {
    Some((key?.to_owned(), within.map(ToOwned::to_owned)))
}

/// What is on all pages. A store that does not know the question has nothing of the kind.
async fn all_pages<T, F>(at: &At, ask: impl Fn(Option<Marker>) -> F) -> Result<Vec<T>, StorageError>
where
    F: Future<Output = Result<Page<T>, StorageError>>,
{
    let (mut all, mut marker) = (Vec::new(), None);
    loop {
        let (page, more, next) = match ask(marker.clone()).await {
            Err(StorageError::Unsupported { .. }) => return Ok(Vec::new()),
            page => page?,
        };
        all.extend(page);
        marker = next_page(at.clone(), more, marker.as_ref(), next)?;
        if marker.is_none() {
            return Ok(all);
        }
    }
}

/// Where the next page begins, if there is one.
fn next_page<T: PartialEq>(
    at: At,
    more: bool,
    this: Option<&T>,
    next: Option<T>,
) -> Result<Option<T>, StorageError> {
    match (more, next) {
        (false, _) => Ok(None),
        (true, Some(next)) if this != Some(&next) => Ok(Some(next)),
        (true, _) => Err(StorageError::Other {
            at,
            detail: "the server says there is more, but not where".into(),
        }),
    }
}

/// Whether a missing key is missing in a bucket that is there. A HEAD cannot tell.
pub(super) async fn bucket_is_there(bucket: &S3, at: At) -> Result<(), StorageError> {
    match bucket
        .clients()
        .retrying
        .head_bucket()
        .bucket(bucket.bucket_name())
        .send()
        .await
    {
        Ok(_) => Ok(()),
        Err(error) => {
            let answer = Answer::of(&error);
            match answer.status {
                404 => Err(StorageError::NoSuchBucket { at }),
                // Not being allowed to look at the bucket proves that it is there.
                403 => Ok(()),
                _ => Err(sort(at, &error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_repeats_a_page_ends_the_list_with_an_error() {
        let at = At::new("list", "", "s3://b");
        assert!(next_page(at.clone(), true, Some(&1), Some(1)).is_err());
        assert!(next_page::<u8>(at.clone(), true, None, None).is_err());
        assert_eq!(next_page(at.clone(), true, Some(&1), Some(2)).unwrap(), Some(2));
        assert_eq!(next_page(at, false, Some(&1), Some(2)).unwrap(), None);
    }
}
