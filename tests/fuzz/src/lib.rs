//! The bodies of the fuzz targets, taken from the tests' crate as a file, so that a fuzz build needs none of its servers
//! and drivers.

#[path = "../../src/fuzz_bodies.rs"]
pub mod fuzz_bodies;
