//! One GET of a signed URL, straight or through the proxy that the environment names.
//!
//! In come a URL and the certificates that its server may have been signed by; out goes the answer with its body still to
//! come. The URL is as good as the file behind it, so the client here is bare: it traces nothing, and no error holds the
//! URL. A proxy sees of an https URL only the host (CONNECT), of an http URL all of it, as with any client.

use std::{error::Error as StdError, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::{
    client::{
        legacy::{
            Client,
            connect::{Connect, proxy::Tunnel},
        },
        proxy::matcher::Intercept,
    },
    rt::TokioExecutor,
};
use kube::{Config, client::ConfigExt};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::api::proxy;

/// How long the store may take to begin its answer, and how long a body may stand still.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What a store answers; errors of the body are texts.
pub(super) type Answer = Response<BoxBody<Bytes, String>>;

/// GET. `roots` are trusted instead of the system's where they are given.
///
/// # Errors
/// A sentence without the URL.
pub(super) async fn get(uri: &Uri, roots: Option<Vec<Vec<u8>>>) -> Result<Answer, String> {
    let proxy = proxy::intercept(uri, |name| std::env::var(name).ok());
    let asked = async {
        match proxy {
            None => ask(uri, connector(uri, roots)?).await,
            Some(proxy) if uri.scheme_str() == Some("https") => tunnelled(uri, &proxy, roots).await,
            Some(proxy) => through(uri, &proxy).await,
        }
    };
    match timeout(ANSWER_WITHIN, asked).await {
        Ok(answer) => answer.map(|answer| answer.map(|body| body.map_err(|error| causes(&error)).boxed())),
        Err(_) => Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

/// A connector that speaks TLS where the scheme wants it.
fn connector(
    uri: &Uri,
    roots: Option<Vec<Vec<u8>>>,
) -> Result<impl Connect + Clone + Send + Sync + 'static, String> {
    let mut config = Config::new(uri.clone());
    config.root_cert = roots;
    config.rustls_https_connector().map_err(|error| causes(&error))
}

async fn ask(
    uri: &Uri,
    connector: impl Connect + Clone + Send + Sync + 'static,
) -> Result<Response<Incoming>, String> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let request = Request::get(uri.clone()).body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    client.request(request).await.map_err(|error| causes(&error))
}

/// By CONNECT. The proxy's own certificate, if it has one, is the system's matter.
async fn tunnelled(
    uri: &Uri,
    proxy: &Intercept,
    roots: Option<Vec<Vec<u8>>>,
) -> Result<Response<Incoming>, String> {
    let to_proxy = Config::new(proxy.uri().clone())
        .rustls_https_connector()
        .map_err(|error| causes(&error))?;
    let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
    if let Some(authorization) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    let mut config = Config::new(uri.clone());
    config.root_cert = roots;
    let connector = config
        .rustls_https_connector_with_connector(tunnel)
        .map_err(|error| causes(&error))?;
    ask(uri, connector).await
}

/// By the whole URL in the request line: proxies seldom open tunnels to ports of plain http.
async fn through(uri: &Uri, proxy: &Intercept) -> Result<Response<Incoming>, String> {
    let connector = Config::new(proxy.uri().clone())
        .rustls_https_connector()
        .map_err(|error| causes(&error))?;
    let stream = connector
        .oneshot(proxy.uri().clone())
        .await
        .map_err(|error| causes(&*error))?;
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| causes(&error))?;
    // Ends with the answer, or when nobody wants its body any more.
    drop(tokio::spawn(connection));
    let host = uri.authority().map(|authority| authority.as_str().to_owned());
    let host = HeaderValue::try_from(host.unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut request = Request::get(uri.clone()).header(header::HOST, host);
    if let Some(authorization) = proxy.basic_auth() {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let request: Request<Empty<Bytes>> = request.body(Empty::new()).map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(|error| causes(&error))
}

/// An error with its causes, without the URL, which none of them holds.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}
