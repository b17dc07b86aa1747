//! A real Velero 1.18.3 beside us: each reads what the other writes.

mod engine;
