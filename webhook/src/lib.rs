//! Admission for `kubectl backup`.
//!
//! In come AdmissionReviews and watched objects; out go answers, patches and, behind a lease, statuses. The rules
//! themselves are pure and live in the plan crate; here is what meets HTTP, TLS and the API server.

pub mod arguments;
pub mod certificate;
pub mod clock;
pub mod decide;
pub mod lease;
pub mod logging;
pub mod observe;
pub mod reconcile;
pub mod review;
pub mod serve;

/// What the suite sends as its name.
pub const USER_AGENT: &str = concat!("backup-webhook/", env!("CARGO_PKG_VERSION"));
