//! Real servers for tests, demo and bench, and the drivers that make a case ten lines long.
//!
//! In comes nothing but a machine with Rust, Go and setpriv; out come a control plane ([`cluster`]), a node whose pods
//! run ([`node`], which wants more of a machine), storage ([`store`]), the built plugin ([`plugin`]), applications to protect ([`applications`]) and two independent views on a cluster and
//! a backup ([`snapshot`], [`compare`]). Callers may rely on three things: every server listens on loopback only, dies
//! with the process that started it however that process ends, and leaves no file behind.

pub mod applications;
pub mod bench;
pub mod cert_manager;
pub mod cluster;
pub mod cluster_api;
pub mod compare;
pub mod demo;
pub mod fuzz_bodies;
pub mod image;
pub mod meter;
pub mod node;
pub mod plugin;
pub mod process;
pub mod proxy;
pub mod release;
pub mod runtime;
pub mod scratch;
pub mod servers;
pub mod snapshot;
pub mod store;
pub mod sts;
pub mod velero;
pub mod webhook;
pub mod zoo;
