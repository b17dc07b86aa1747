//! Which of the replicas leads: one Lease, taken, renewed and given back.
//!
//! A leader that cannot renew stops leading before anybody else may start, whatever its wall clock says: others count
//! from when *they* saw the last renewal. Work behind a lease must nevertheless bear two leaders for a moment (a paused
//! machine), so it writes with resource versions.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// How long others wait after the last renewal that they saw.
const DURATION: Duration = Duration::from_secs(15);
/// How long a leader leads after its last renewal.
const LEADS_FOR: Duration = Duration::from_secs(10);
/// How often it renews, and others look.
const EVERY: Duration = Duration::from_secs(3);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Whether this replica leads.
#[derive(Debug, Clone)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
}

impl Leadership {
    /// Now. Ask before every write.
    pub fn is_leader(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until it leads; for ever, if nobody campaigns any more.
    pub async fn leads(&mut self) {
        while !self.is_leader() {
            if self.until.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// One replica that would lead.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    holder: String,
    until: watch::Sender<Option<Instant>>,
}

/// The lease of others, and since when it has looked like this.
#[derive(Debug)]
struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

impl Candidate {
    /// A candidate under the name `holder`, which no other replica has.
    pub fn new(client: &Client, namespace: &str, name: &str, holder: &str) -> (Self, Leadership) {
        let (sender, receiver) = watch::channel(None);
        let candidate = Self {
            api: Api::namespaced(client.clone(), namespace),
            name: name.to_owned(),
            holder: holder.to_owned(),
            until: sender,
        };
        (candidate, Leadership { until: receiver })
    }

    /// Campaigns until `stop`, then gives the lease back, so that the next one need not wait.
    pub async fn campaign(self, stop: CancellationToken) {
        let mut observed = None;
        let mut complaint = None;
        loop {
            let began = Instant::now();
            match tokio::time::timeout(ATTEMPT, self.attempt(&mut observed)).await {
                Ok(Ok(leads)) => {
                    complaint = None;
                    self.tell(leads.then(|| began + LEADS_FOR));
                }
                Ok(Err(error)) => complain(&mut complaint, &error.to_string()),
                Err(_) => complain(&mut complaint, "the API server does not answer"),
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        let led = self.until.borrow().is_some();
        self.until.send_replace(None);
        if led {
            let _ = tokio::time::timeout(ATTEMPT, self.give_back()).await;
        }
    }

    fn tell(&self, until: Option<Instant>) {
        let led = self.until.borrow().is_some();
        if led != until.is_some() {
            tracing::info!(leads = until.is_some(), holder = self.holder, "leader lease");
        }
        self.until.send_replace(until);
    }

    /// Takes or renews the lease; gives whether it is ours.
    async fn attempt(&self, observed: &mut Option<Observed>) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.taken(&LeaseSpec::default())),
            };
            return done(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let is_free = match observed {
            Some(known) if known.spec == spec => known.since.elapsed() >= DURATION,
            _ => {
                *observed = Some(Observed {
                    spec: spec.clone(),
                    since: Instant::now(),
                });
                false
            }
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if !(holder.is_empty() || holder == self.holder || is_free) {
            return Ok(false);
        }
        // With the version that was read: of two that take it at once, one is told.
        lease.spec = Some(self.taken(&spec));
        done(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn taken(&self, spec: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(clock::now());
        let is_ours = spec.holder_identity.as_deref() == Some(&self.holder);
        let transitions = spec.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(15),
            acquire_time: if is_ours {
                spec.acquire_time.clone()
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(if is_ours { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }

    async fn give_back(&self) -> kube::Result<()> {
        let mut lease = self.api.get(&self.name).await?;
        let Some(spec) = lease.spec.as_mut() else {
            return Ok(());
        };
        if spec.holder_identity.as_deref() != Some(&self.holder) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        self.api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
            .map(drop)
    }
}

fn done(written: kube::Result<Lease>) -> kube::Result<bool> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

fn complain(known: &mut Option<String>, said: &str) {
    if known.as_deref() != Some(said) {
        tracing::warn!(error = said, "the leader lease cannot be had");
        *known = Some(said.to_owned());
    }
}
