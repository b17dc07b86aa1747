//! Short hashes for names and masks.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The first bytes of the SHA-256 of a text, as lower-case hexadecimal.
pub fn sha256_start(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(bytes)
        .fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
