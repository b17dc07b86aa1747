//! The annotator: which volumes of new pods are opted in, asked through a real API server.
//!
//! All cases share a server and a cluster; each has a namespace of its own, and its policies select that one by name.

mod other;
mod policies;
mod property;
mod site;
mod velero;
mod volumes;
