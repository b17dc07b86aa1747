//! What a restore remembers of the objects that it has seen, for steps that come later.
//!
//! In come objects and outcomes, from many tasks at once; out go sets and lists. Memory grows with what is remembered, never
//! with the size of the backup: pods that have hooks, claims, Services with a selector, rules.

use std::sync::PoisonError;

use backup_plan::restore::transform::Applied;
use jiff::Timestamp;
use serde_json::Value;
use velero_model::{outcome::HookOutcome, resource::ApiKind};

use super::{hooks::Hooked, run::Run};

impl Run {
    /// Remembers a Service that the cluster makes endpoints for.
    pub(super) fn note_service(&self, kind: &ApiKind, object: &Value) {
        if kind.group.is_empty()
            && kind.plural == "services"
            && object["spec"]["selector"]
                .as_object()
                .is_some_and(|selector| !selector.is_empty())
        {
            let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
            let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
            services.insert(text("namespace"), text("name"));
        }
    }

    /// Remembers that commands are to be run in a pod.
    pub(super) fn expect_hooks(&self, hooked: Hooked) {
        if hooked.has_commands() {
            let mut all = self.hooked.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(hooked);
        }
    }

    /// The pods of [`Self::expect_hooks`], once.
    pub(super) fn take_hooked(&self) -> Vec<Hooked> {
        std::mem::take(&mut *self.hooked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When this restore began, or the first try of it.
    pub(super) fn begun(&self) -> Timestamp {
        let earlier = self.resumes.as_deref().and_then(|text| text.parse().ok());
        earlier.unwrap_or(self.begun)
    }

    /// Remembers what came of a hook.
    pub(super) fn note_hook(&self, outcome: HookOutcome) {
        let mut done = self.hooks_done.lock().unwrap_or_else(PoisonError::into_inner);
        done.attempted += 1;
        done.failed += u64::from(outcome.error.is_some());
        done.items.push(outcome);
    }

    /// Remembers that a claim belongs to what is restored.
    pub(super) fn note_claim(&self, namespace: &str, name: &str) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.insert(namespace, name);
    }

    /// Whether a claim belongs to what is restored.
    pub(super) fn has_claim(&self, namespace: &str, name: &str) -> bool {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.contains(namespace, name)
    }

    /// Remembers which rules found something to change.
    pub(super) fn note_applied(&self, applied: &[Applied]) {
        if !applied.is_empty() {
            let mut all = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(applied.iter().cloned());
        }
    }
}
