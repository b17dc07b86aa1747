//! Keeps a table in step with the API server.
//!
//! kube's watcher lists, watches and resumes; here every event becomes rows. After an error the kind is listed anew
//! instead of resumed: a quiet kind sends no event from which its recovery could be told otherwise.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube_runtime::watcher::{Error, Event, Result as Watched};

use super::Table;

/// Why an object cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A CRD that is installed after us is seen this soon.
const NOT_SERVED_PAUSE: Duration = Duration::from_secs(2);

/// Starts a task that fills `table` from the streams that `watch` opens, with what `fact` keeps of each object.
pub fn feed<K, T, S>(
    table: &Arc<Table<T>>,
    watch: impl Fn() -> S + Send + 'static,
    fact: impl Fn(K) -> Result<T, Unreadable> + Send + 'static,
) where
    K: ResourceExt + Debug + Send + 'static,
    T: Send + Sync + 'static,
    S: Stream<Item = Watched<Event<K>>> + Send + 'static,
{
    let table = Arc::clone(table);
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            let (mut events, opened) = (Box::pin(watch()), Instant::now());
            while let Some(event) = events.next().await {
                let ended = match event {
                    Ok(event) => {
                        take(&table, event, &fact);
                        continue;
                    }
                    Err(error) => error,
                };
                // Events alone are no success: each attempt brings some before it fails.
                if opened.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                if is_not_served(&ended) {
                    table.not_served();
                    pause = NOT_SERVED_PAUSE;
                } else {
                    table.lost(ended.to_string());
                }
                break;
            }
            drop(events);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
}

fn take<K: ResourceExt, T>(table: &Table<T>, event: Event<K>, fact: &impl Fn(K) -> Result<T, Unreadable>) {
    match event {
        Event::Init => table.begin(),
        Event::InitApply(object) => keep(table, object, fact, Table::listed),
        Event::InitDone => table.end(),
        Event::Apply(object) => keep(table, object, fact, Table::put),
        Event::Delete(object) => {
            table.remove(&object.namespace().unwrap_or_default(), &object.name_any());
        }
    }
}

fn keep<K: ResourceExt, T>(
    table: &Table<T>,
    object: K,
    fact: &impl Fn(K) -> Result<T, Unreadable>,
    put: impl Fn(&Table<T>, &str, &str, T),
) {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    match fact(object) {
        Ok(fact) => put(table, &namespace, &name, fact),
        Err(why) => {
            tracing::warn!(namespace, name, %why, "an object cannot be read and is left aside");
            table.remove(&namespace, &name);
            table.count_unreadable();
        }
    }
}

/// By the code: a path that nobody serves is answered with plain text, not with a Status that has a reason.
fn is_not_served(error: &Error) -> bool {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}
