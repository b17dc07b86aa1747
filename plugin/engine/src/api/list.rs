//! Lists of any length, a page at a time, each page of bounded size.
//!
//! Pages begin small and grow to what the bytes seen so far allow, so that a thousand objects of a MiB need no more
//! memory than a thousand small ones; a page that is larger than expected is dropped while it is read and asked for
//! again in smaller pieces. A continue token that expired is replaced by the inconsistent one that the server offers,
//! or, without an offer, the list is begun again and everything up to the last object seen is passed over: no object
//! twice, none lost that was there all the time.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use velero_model::{
    item::{Front, Head, Page, PageMetadata, next_object},
    resource::ApiKind,
};

use super::{
    client::{ApiClient, Call, JSON, encode},
    error::ApiError,
};

/// Objects of the first page.
const FIRST_LIMIT: usize = 100;

/// Most objects of a page, Velero's and kubectl's number.
const LIMIT_MAX: usize = 500;

/// Bytes that a page should have.
const PAGE_TARGET: usize = 3 << 20;

/// Bytes at which a page of more than one object is given up and asked for in smaller pieces.
const PAGE_MAX: usize = 12 << 20;

/// Bytes that a page of a single object may have.
const OBJECT_MAX: usize = 96 << 20;

const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// What to list.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// The kind.
    pub kind: ApiKind,
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// Label selector in text form; empty for all.
    pub selector: String,
    /// Only metadata of the objects.
    pub metadata_only: bool,
}

/// One page as the server sent it.
#[derive(Debug, Clone)]
pub struct PageBody {
    bytes: Bytes,
    items: Items,
    /// Whether objects up to the last one seen are passed over: the list was begun again.
    passes_over: bool,
    seen: LastSeen,
}

/// Where the objects of a page are.
#[derive(Debug, Clone)]
enum Items {
    /// One behind the other from here on.
    From(usize),
    /// There.
    At(Vec<Range<usize>>),
}

/// The key (`namespace/name`) of the last object that was looked at, over all pages of a list.
type LastSeen = Arc<Mutex<Option<String>>>;

impl PageBody {
    /// The objects as the server sent them, each with its head or the reason why it has none. Objects that an earlier
    /// page held already are left out; so pages must be looked at in their order.
    pub fn objects(&self) -> impl Iterator<Item = (&[u8], Result<Head<'_>, serde_json::Error>)> {
        let before = self.passes_over.then(|| self.last_seen().clone()).flatten();
        let mut place = match self.items {
            Items::From(begin) => Some(begin),
            Items::At(_) => Some(0),
        };
        let mut last: &[u8] = &[];
        std::iter::from_fn(move || {
            loop {
                let Some((raw, head)) = self.next(&mut place) else {
                    self.remember(last);
                    return None;
                };
                last = raw;
                let is_old = before
                    .as_ref()
                    .zip(head.as_ref().ok())
                    .is_some_and(|(before, head)| key(head) <= *before);
                if !is_old {
                    return Some((raw, head));
                }
            }
        })
    }

    /// The object at a place (a byte, or a position), which goes on to the next one; a list that breaks off ends with an
    /// error.
    fn next(&self, place: &mut Option<usize>) -> Option<(&[u8], Result<Head<'_>, serde_json::Error>)> {
        let at = (*place)?;
        match &self.items {
            Items::At(ranges) => {
                let raw = self.bytes.get(ranges.get(at)?.clone())?;
                *place = Some(at + 1);
                Some((raw, Head::parse(raw)))
            }
            Items::From(_) => match next_object(self.bytes.get(at..).unwrap_or_default()) {
                Ok(Some((raw, head, behind))) => {
                    *place = Some(at + behind);
                    Some((raw, head))
                }
                Ok(None) => None,
                Err(error) => {
                    *place = None;
                    Some((&[], Err(error)))
                }
            },
        }
    }

    fn last_seen(&self) -> MutexGuard<'_, Option<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists come sorted, so that the last object has the greatest key.
    fn remember(&self, last: &[u8]) {
        if let Ok(head) = Head::parse(last) {
            let mut seen = self.last_seen();
            *seen = seen.take().max(Some(key(&head)));
        }
    }
}

/// A list in progress.
pub struct Pager {
    client: ApiClient,
    request: ListRequest,
    /// Only objects of this name; empty for all.
    name: String,
    limit: usize,
    /// Bytes of an object on the last page.
    average: usize,
    continue_token: String,
    seen: LastSeen,
    passes_over: bool,
    resource_version: String,
    point_in_time: bool,
    begun: bool,
    restarted: bool,
}

impl ApiClient {
    /// Begins a list.
    pub fn list(&self, request: ListRequest) -> Pager {
        Pager {
            client: self.clone(),
            request,
            name: String::new(),
            limit: FIRST_LIMIT,
            average: 0,
            continue_token: String::new(),
            seen: LastSeen::default(),
            passes_over: false,
            resource_version: String::new(),
            point_in_time: true,
            begun: false,
            restarted: false,
        }
    }

    /// Few objects as values, all of them at once; what is no JSON is passed over, which no server sends.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(crate) async fn objects(
        &self,
        kind: ApiKind,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<serde_json::Value>, ApiError> {
        let mut pages = self.list(ListRequest {
            kind,
            namespace: namespace.map(str::to_owned),
            selector: selector.to_owned(),
            metadata_only: false,
        });
        let mut found = Vec::new();
        while let Some(page) = pages.next().await? {
            let objects = page.objects();
            found.extend(objects.filter_map(|(raw, _)| serde_json::from_slice(raw).ok()));
        }
        Ok(found)
    }
}

impl ApiClient {
    /// How many objects a list without a selector would hold; `None` where the server does not say.
    ///
    /// # Errors
    /// As for a list.
    pub async fn count(&self, kind: &ApiKind, namespace: Option<&str>) -> Result<Option<u64>, ApiError> {
        let path = format!("{}?limit=1", kind.collection_path(namespace));
        let bytes = self
            .call(Call {
                accept: METADATA_ONLY,
                ..Call::get(&path)
            })
            .await?;
        let parse = |_| ApiError::Parse {
            what: format!("GET {path}"),
            expected: "list of objects",
        };
        let page = Page::parse(&bytes).map_err(parse)?;
        let here = page.items.map_or(0, |items| items.len() as u64);
        let is_last = page.metadata.continue_token.is_empty();
        Ok(match page.metadata.remaining_item_count {
            Some(remaining) => Some(here + remaining),
            None => is_last.then_some(here),
        })
    }
}

impl Pager {
    /// The same list with objects of this name only, in whichever namespace.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Whether all pages so far show one moment.
    pub fn is_point_in_time(&self) -> bool {
        self.point_in_time
    }

    /// Resource version of the first page.
    pub fn resource_version(&self) -> &str {
        &self.resource_version
    }

    /// The next page, or `None` after the last.
    ///
    /// # Errors
    /// When the list cannot be continued; what came before is good.
    pub async fn next(&mut self) -> Result<Option<PageBody>, ApiError> {
        if self.begun && self.continue_token.is_empty() {
            return Ok(None);
        }
        loop {
            let path = self.path();
            let limit = if self.limit == 1 { OBJECT_MAX } else { PAGE_MAX };
            let accept = if self.request.metadata_only {
                METADATA_ONLY
            } else {
                JSON
            };
            match self
                .client
                .call(Call {
                    accept,
                    limit,
                    expected: self.expected(),
                    ..Call::get(&path)
                })
                .await
            {
                Ok(bytes) => return self.take(bytes).map(Some),
                Err(ApiError::TooLarge { .. }) if self.limit > 1 => self.limit = (self.limit / 8).max(1),
                Err(error) if error.is_expired() && self.begun => self.go_on_after_expiry(error)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes that the next page probably has: as many objects as were asked for, of the size of the last ones.
    fn expected(&self) -> usize {
        let expected = self.average * self.limit;
        (expected + expected / 16).min(PAGE_TARGET)
    }

    fn path(&self) -> String {
        let mut path = self
            .request
            .kind
            .collection_path(self.request.namespace.as_deref());
        path.push_str("?limit=");
        path.push_str(&self.limit.to_string());
        if !self.request.selector.is_empty() {
            path.push_str("&labelSelector=");
            path.push_str(&encode(&self.request.selector));
        }
        if !self.name.is_empty() {
            path.push_str("&fieldSelector=");
            path.push_str(&encode(&format!("metadata.name={}", self.name)));
        }
        if !self.continue_token.is_empty() {
            path.push_str("&continue=");
            path.push_str(&encode(&self.continue_token));
        }
        path
    }

    fn take(&mut self, bytes: Bytes) -> Result<PageBody, ApiError> {
        let items = if let Some(front) = Front::parse(&bytes) {
            // Where more follows, as many came as were asked for.
            let came = if front.metadata.continue_token.is_empty() {
                0
            } else {
                self.limit
            };
            self.go_on(front.metadata, bytes.len(), came);
            Items::From(front.items)
        } else {
            let page = Page::parse(&bytes).map_err(|_| self.no_list())?;
            let items = page.items.as_deref().unwrap_or_default();
            let begin = bytes.as_ptr() as usize;
            let ranges = items.iter().map(|item| {
                let start = item.get().as_ptr() as usize - begin;
                start..start + item.get().len()
            });
            let ranges: Vec<_> = ranges.collect();
            self.go_on(page.metadata, bytes.len(), ranges.len());
            Items::At(ranges)
        };
        Ok(PageBody {
            bytes,
            items,
            passes_over: self.passes_over,
            seen: Arc::clone(&self.seen),
        })
    }

    fn no_list(&self) -> ApiError {
        let namespace = self.request.namespace.as_deref();
        ApiError::Parse {
            what: format!("GET {}", self.request.kind.collection_path(namespace)),
            expected: "list of objects",
        }
    }

    /// Notes what a page of so many bytes and objects says about the next one.
    fn go_on(&mut self, metadata: PageMetadata, bytes: usize, objects: usize) {
        if !self.begun {
            self.resource_version = metadata.resource_version;
        }
        self.begun = true;
        // Where a server ignores the limit, one page is everything and no token follows.
        if let Some(average) = bytes.checked_div(objects) {
            self.limit = (PAGE_TARGET / average.max(1)).clamp(1, LIMIT_MAX);
            self.average = average;
        }
        self.continue_token = metadata.continue_token;
    }

    /// Takes the token that the server offers in its 410, or begins again behind the last object seen.
    fn go_on_after_expiry(&mut self, error: ApiError) -> Result<(), ApiError> {
        self.point_in_time = false;
        if let ApiError::Status {
            continue_token: Some(token),
            ..
        } = &error
        {
            self.continue_token.clone_from(token);
            return Ok(());
        }
        if self.restarted {
            return Err(error);
        }
        self.restarted = true;
        self.continue_token.clear();
        self.passes_over = true;
        Ok(())
    }
}

/// What lists are sorted by: the key in etcd.
fn key(head: &Head<'_>) -> String {
    match &head.metadata.namespace {
        Some(namespace) => format!("{namespace}/{}", head.metadata.name),
        None => head.metadata.name.clone().into_owned(),
    }
}
