//! Admission on a real kube-apiserver: what is refused, what is let through, and in which words; and the server behind
//! it, asked by hostile clients.
//!
//! Cases whose names begin with `gate` are about the deletion of clusters, those with `annotator` about volumes of pods.

mod annotator;
mod bodies;
mod cert_manager;
mod certificates;
mod gate_alone;
mod gate_cold;
mod gate_commands;
mod gate_floor;
mod gate_guard;
mod gate_move;
mod gate_session;
mod gate_site;
mod gate_storage;
mod gate_table;
mod gate_ways;
mod gate_work;
mod http2;
mod lifecycle;
mod runtime_hook;
