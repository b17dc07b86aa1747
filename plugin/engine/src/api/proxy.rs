//! Which proxy stands between us and a server: the API server, or the store to which Velero's signed URLs lead.
//!
//! In come the server's URL, the kubeconfig's own `proxy-url` and the proxy variables, out goes the proxy that kubectl
//! would use: the kubeconfig's own always, one from the variables unless NO_PROXY excepts the server or the server is on
//! this machine. kube's own choice is not used: it compares NO_PROXY with the proxy's address instead of the server's.

use std::net::IpAddr;

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// The `proxy-url` of the cluster that is chosen.
pub(super) fn named(kubeconfig: &Kubeconfig, choice: &KubeConfigOptions) -> Option<Uri> {
    let context = choice.context.as_ref().or(kubeconfig.current_context.as_ref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == *context);
    let cluster = choice
        .cluster
        .as_ref()
        .or(context.and_then(|named| Some(&named.context.as_ref()?.cluster)))?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == *cluster)?;
    let url = cluster.cluster.as_ref()?.proxy_url.as_deref()?;
    // kube has refused what does not parse.
    url.parse().ok()
}

/// The proxy to this server that the environment asks for, with user and password in its URL.
pub(super) fn from_environment(server: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<Uri> {
    let (url, proxy) = chosen(server, variable)?;
    let proxy = proxy.uri().clone();
    // The matcher takes user and password out of the URL; the client looks for them there.
    let Some((before, _)) = url.rsplit_once('@') else {
        return Some(proxy);
    };
    let user = before.rsplit("://").next().unwrap_or(before);
    let mut parts = proxy.into_parts();
    let authority = format!("{user}@{}", parts.authority?);
    parts.authority = Some(authority.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The same, with user and password as the header that a proxy wants.
pub(crate) fn intercept(server: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<Intercept> {
    chosen(server, variable).map(|(_, proxy)| proxy)
}

/// What the variable says, and what it means for this server.
fn chosen(server: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<(String, Intercept)> {
    if is_on_this_machine(server.host()?) {
        return None;
    }
    let either = |name: &str| {
        let value = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
        value.filter(|value| !value.is_empty())
    };
    let url = either(match server.scheme_str() {
        Some("http") => "HTTP_PROXY",
        _ => "HTTPS_PROXY",
    })?;
    let excepted = either("NO_PROXY").unwrap_or_default();
    let matcher = Matcher::builder().all(url.clone()).no(excepted).build();
    let proxy = matcher.intercept(server)?;
    Some((url, proxy))
}

fn is_on_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_the_one_that_kubectl_would_use() {
        let proxy = "http://proxy.example.org:3128/";
        let secret = "http://u:p%40w@proxy.example.org:3128/";
        let table = [
            // server, HTTPS_PROXY, NO_PROXY, the proxy
            ("https://api.example.com:6443", proxy, "", Some(proxy)),
            (
                "https://api.example.com:6443",
                "proxy.example.org:3128",
                "",
                Some(proxy),
            ),
            ("https://api.example.com:6443", secret, "", Some(secret)),
            ("https://api.example.com:6443", "", "", None),
            ("https://api.example.com:6443", proxy, "api.example.com", None),
            (
                "https://api.example.com:6443",
                proxy,
                ".example.com,10.0.0.0/8",
                None,
            ),
            ("https://api.example.com:6443", proxy, "*", None),
            ("https://10.1.2.3:6443", proxy, ".example.com, 10.0.0.0/8", None),
            (
                "https://11.1.2.3:6443",
                proxy,
                ".example.com, 10.0.0.0/8",
                Some(proxy),
            ),
            // The proxy's own address excepts nothing.
            (
                "https://api.example.com:6443",
                proxy,
                "proxy.example.org",
                Some(proxy),
            ),
            ("https://127.0.0.1:6443", proxy, "", None),
            ("https://localhost:6443", proxy, "", None),
            ("https://[::1]:6443", proxy, "", None),
        ];
        for (server, https, no, expected) in table {
            for upper in [true, false] {
                let variable = |name: &str| match (name, upper) {
                    ("HTTPS_PROXY", true) | ("https_proxy", false) => Some(https.to_owned()),
                    ("NO_PROXY", true) | ("no_proxy", false) => Some(no.to_owned()),
                    ("HTTP_PROXY" | "ALL_PROXY", _) => Some("http://another:1".to_owned()),
                    _ => None,
                };
                let found = from_environment(&server.parse().unwrap(), variable);
                let found = found.map(|uri| uri.to_string());
                assert_eq!(found.as_deref(), expected, "{server} {https} {no}");
            }
        }
    }

    #[test]
    fn a_kubeconfig_s_own_proxy_is_found_by_context_and_by_cluster() {
        let kubeconfig = Kubeconfig::from_yaml(
            "{current-context: a, contexts: [{name: a, context: {cluster: one, user: u}}, {name: b, context: {cluster: two, user: u}}], \
             clusters: [{name: one, cluster: {server: 'https://one'}}, {name: two, cluster: {server: 'https://two', proxy-url: 'http://p:1'}}]}",
        )
        .unwrap();
        let of = |context: Option<&str>, cluster: Option<&str>| {
            let choice = KubeConfigOptions {
                context: context.map(Into::into),
                cluster: cluster.map(Into::into),
                user: None,
            };
            named(&kubeconfig, &choice).map(|uri| uri.to_string())
        };
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some("b"), None).as_deref(), Some("http://p:1/"));
        assert_eq!(of(None, Some("two")).as_deref(), Some("http://p:1/"));
        assert_eq!(of(Some("b"), Some("one")), None);
    }
}
