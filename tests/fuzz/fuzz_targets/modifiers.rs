//! Resource modifiers. The body and what it promises stand in `tests/src/fuzz_bodies.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| backup_fuzz::fuzz_bodies::modifiers(bytes));
