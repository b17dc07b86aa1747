//! `backup-webhook`: serves the admission suite.

fn main() {}
