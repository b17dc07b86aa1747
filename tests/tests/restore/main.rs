//! Restores into a real cluster: everything comes back, nothing that is there is harmed, and every loss is named.
//!
//! Cases drive the engine itself; a location in memory stands for the bucket. Each case works in namespaces and with
//! cluster-scoped names of its own.

mod applications;
mod asking;
mod custom_resources;
mod existing;
mod interruption;
mod killed;
mod moving;
mod operator;
mod owners;
mod plan;
mod random;
mod selection;
mod services;
mod site;
mod volumes;
