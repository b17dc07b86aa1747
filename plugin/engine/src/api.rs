//! The API server as a backup sees it: requests in, raw bytes out.
//!
//! kube brings the connection (kubeconfig, TLS, credentials); its own retries and typed decoding are left aside. Retries
//! here know the method: what may have been executed is never sent twice. Bodies come back as the server sent them and
//! are never logged. Later code may rely on every error naming the request and the server.

mod client;
mod connect;
mod discovery;
mod error;
mod list;
pub(crate) mod proxy;
mod rate;
#[cfg(test)]
mod tests;

pub use client::{ApiClient, ClusterIdentity, PatchKind, object_path};
pub use connect::ConnectOptions;
pub use discovery::{Discovery, FailedGroup};
pub use error::ApiError;
pub use list::{ListRequest, PageBody, Pager};
