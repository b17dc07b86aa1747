//! Admission on a real kube-apiserver: what is refused, what is let through, and in which words.
//!
//! Cases whose names begin with `gate` are about the deletion of clusters.

mod gate_floor;
