//! Kubeconfig files as kubectl writes them.

use serde_json::{Value, json};

use super::certificates::Identity;

/// How a kubeconfig proves who its user is.
pub(super) enum Credential {
    Token(String),
    Certificate(Identity),
}

/// The text of a kubeconfig with one cluster, one user and one context, all of them current. JSON is YAML.
pub(super) fn kubeconfig(
    context: &str,
    server: &str,
    authority: &str,
    user: &str,
    credential: Credential,
) -> String {
    let credential = match credential {
        Credential::Token(token) => json!({ "token": token }),
        Credential::Certificate(identity) => json!({
            "client-certificate-data": base64(identity.certificate.as_bytes()),
            "client-key-data": base64(identity.key.as_bytes()),
        }),
    };
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": context,
            "cluster": { "server": server, "certificate-authority-data": base64(authority.as_bytes()) },
        }],
        "users": [{ "name": user, "user": credential }],
        "contexts": [{ "name": context, "context": { "cluster": context, "user": user } }],
        "current-context": context,
    });
    format!("{config:#}\n")
}

/// Standard base64 with padding, as Kubernetes uses it everywhere.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_usize, |group, byte| group << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let sextet = group >> (18 - 6 * position) & 63;
            text.push(if position > chunk.len() {
                '='
            } else {
                char::from(ALPHABET[sextet])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_pads_as_the_standard_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0x00]), "//4A");
    }
}
