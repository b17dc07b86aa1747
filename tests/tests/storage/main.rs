//! Storage: one contract for all kinds of locations, and what happens when the world misbehaves.
//!
//! `contract` runs the same cases over memory, a folder, an S3 server in process and versitygw; `faults` puts a proxy
//! that breaks connections between the client and a real server; `refusals` provokes what a person has to be told;
//! `environment` is about credentials, proxies and certificates. `web_identity`, `encryption` and `proxies` are real backups
//! by the plugin, with what passed over the wire read off it.
//! The locations are opened as the plugin opens them.

mod contract;
mod encryption;
mod environment;
mod faults;
mod maintenance;
mod proxies;
mod refusals;
mod repository;
mod subjects;
mod web_identity;
