//! Recovery tickets in a location: in its own folder, or in folders of clusters up to two levels below it.
//!
//! In comes a bucket; out go tickets, each with the folder that it lies in. What lies at the place of a ticket and is none is
//! named.

use std::sync::Arc;

use velero_model::{
    layout::{FIRST_LEVEL, RECOVERY},
    recovery::RecoveryTicket,
};

use super::error::CatalogError;
use crate::storage::Bucket;

/// Largest ticket that is read.
const MAX: u64 = 16 << 20;

/// How far below a location clusters have their folders: `NAMESPACE/NAME`.
const DEPTH: usize = 2;

/// A ticket where it was found.
#[derive(Debug, Clone)]
pub struct FoundTicket {
    /// Folder of the cluster, with a slash at its end; empty for the location's own.
    pub folder: String,
    /// Key of the ticket.
    pub key: String,
    /// The ticket.
    pub ticket: RecoveryTicket,
}

/// All tickets, and the keys of what should be one and is not.
///
/// # Errors
/// When the location cannot be listed or read.
pub async fn tickets(bucket: &Arc<dyn Bucket>) -> Result<(Vec<FoundTicket>, Vec<String>), CatalogError> {
    let mut found = Vec::new();
    let mut odd = Vec::new();
    let mut folders = vec![(String::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for info in bucket.list_all(&format!("{folder}{RECOVERY}")).await? {
            let ticket = match bucket.get(&info.key, MAX).await? {
                Some((bytes, _)) => RecoveryTicket::parse(&bytes),
                None => continue,
            };
            match ticket {
                Some(ticket) => found.push(FoundTicket {
                    folder: folder.clone(),
                    key: info.key,
                    ticket,
                }),
                None => odd.push(info.key),
            }
        }
        if depth < DEPTH {
            for below in bucket.list_folders(&folder).await? {
                let is_veleros = FIRST_LEVEL.contains(&below.as_str());
                if !is_veleros {
                    folders.push((format!("{folder}{below}/"), depth + 1));
                }
            }
        }
    }
    found.sort_by(|one, other| one.key.cmp(&other.key));
    Ok((found, odd))
}
