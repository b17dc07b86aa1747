//! Keeps a certificate of our own: read by every replica, renewed by the one that leads.
//!
//! Each round reads the Secret, serves what is in it, and, where this replica leads, publishes the trusted authorities
//! and takes the next step of the rotation. A round that fails changes nothing and is repeated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;

use super::bundle::Bundle;
use super::mint::{MintError, mint};
use super::publish::{Configurations, PublishError, publish};
use super::rotation::{Seen, Step, step};
use super::secret::{Store, StoreError, Stored};
use super::{CertificateError, Identity, Sender};
use crate::clock;
use crate::lease::Leadership;

/// What the keeper works with.
pub struct Keeper {
    /// For publishing.
    pub client: Client,
    /// Where the pair is shared.
    pub store: Store,
    /// DNS names and addresses that the API server calls us by.
    pub names: Vec<String>,
    /// Life of a certificate.
    pub validity: Duration,
    /// How long a step takes to reach every replica and API server.
    pub settle: Duration,
    /// Who is to trust us.
    pub configurations: Configurations,
    /// Whether this replica writes.
    pub leadership: Leadership,
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Reading or writing the Secret.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Making a pair.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// Writing a caBundle.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// What is stored cannot be served.
    #[error("what the secret holds cannot be served: {0}")]
    Certificate(#[from] CertificateError),
}

/// The longest time between two rounds: the wall clock is looked at this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// While there is nothing to be served, nobody is ready.
const URGENT_PAUSE: Duration = Duration::from_millis(250);

/// What one replica knows from one round to the next.
#[derive(Debug, Default)]
struct Memory {
    version: String,
    /// Since when this version is published; none if it is not.
    published: Option<Instant>,
    complaint: Option<String>,
}

impl Keeper {
    /// Goes on for ever.
    pub async fn follow(self, sender: Sender) {
        let usual = (self.settle / 4).min(LONGEST_PAUSE);
        let mut memory = Memory::default();
        loop {
            let acted = match self.round(&mut memory, &sender).await {
                Ok(acted) => {
                    memory.complaint = None;
                    acted
                }
                Err(KeeperError::Store(StoreError::Conflict(_))) => true,
                Err(error) => {
                    let said = error.to_string();
                    if memory.complaint.as_ref() != Some(&said) {
                        tracing::error!(error = said, "the certificate cannot be kept");
                        memory.complaint = Some(said);
                    }
                    false
                }
            };
            // What was written is read and served before anything else is done.
            if !acted {
                let is_served = sender.borrow().is_some();
                let pause = if is_served { usual } else { usual.min(URGENT_PAUSE) };
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// One round; gives whether something was written.
    async fn round(&self, memory: &mut Memory, sender: &Sender) -> Result<bool, KeeperError> {
        let stored = self.store.read().await?;
        let bundle = stored.as_ref().and_then(|stored| stored.bundle.as_ref());
        let version = stored.as_ref().map_or("", Stored::version);
        if memory.version != version {
            version.clone_into(&mut memory.version);
            memory.published = None;
            if let Some(bundle) = bundle {
                serve(bundle, sender);
            }
        }
        if !self.leadership.is_leader() {
            memory.published = None;
            return Ok(false);
        }
        let seen = bundle.map(|bundle| self.seen(bundle)).transpose();
        // A stored pair that cannot be served is replaced like one that has expired.
        let seen = seen
            .inspect_err(|error| tracing::error!(%error, "the secret is made anew"))
            .unwrap_or(None);
        if let (Some(bundle), Some(_)) = (bundle, seen) {
            publish(&self.client, &self.configurations, &bundle.authorities()).await?;
            memory.published.get_or_insert_with(Instant::now);
        }
        let seen = seen.map(|seen| Seen {
            settled_for: memory.published.map(|since| since.elapsed()),
            ..seen
        });
        let step = step(seen, clock::now(), self.settle);
        let Some(changed) = self.apply(step, bundle)? else {
            return Ok(false);
        };
        self.store.write(&changed, stored.as_ref()).await?;
        tracing::info!(?step, trusted = changed.trusted.len(), "certificate");
        Ok(true)
    }

    fn seen(&self, bundle: &Bundle) -> Result<Seen, KeeperError> {
        let current = identity(&bundle.current)?;
        let next = bundle.next.as_ref().map(identity).transpose()?;
        Ok(Seen {
            not_before: current.not_before,
            not_after: current.not_after,
            covers_names: current.covers(&self.names),
            next_not_after: next.map(|next| next.not_after),
            trusted: bundle.trusted.len(),
            settled_for: None,
        })
    }

    /// The bundle after this step; none where nothing is to be done.
    fn apply(&self, step: Step, bundle: Option<&Bundle>) -> Result<Option<Bundle>, KeeperError> {
        let mint = || mint(&self.names, clock::now(), self.validity);
        Ok(match (step, bundle.cloned()) {
            (Step::Mint, _) | (_, None) => {
                let minted = mint()?;
                Some(Bundle {
                    trusted: vec![minted.authority],
                    current: minted.pair,
                    next: None,
                })
            }
            (Step::Prepare, Some(mut bundle)) => {
                let minted = mint()?;
                bundle.trusted.push(minted.authority);
                bundle.next = Some(minted.pair);
                Some(bundle)
            }
            (Step::Promote, Some(mut bundle)) => {
                if let Some(next) = bundle.next.take() {
                    bundle.current = next;
                }
                Some(bundle)
            }
            (Step::Drop, Some(mut bundle)) => {
                bundle.trusted.drain(..bundle.trusted.len().saturating_sub(1));
                Some(bundle)
            }
            (Step::Rest, Some(_)) => None,
        })
    }
}

fn identity(pair: &super::bundle::Pair) -> Result<Identity, CertificateError> {
    Identity::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes())
}

fn serve(bundle: &Bundle, sender: &Sender) {
    match identity(&bundle.current) {
        Ok(identity) => {
            sender.send_replace(Some(Arc::new(identity)));
        }
        Err(error) => tracing::error!(%error, "what the secret holds cannot be served"),
    }
}
