//! One client for everything: raw requests, retried as their method allows.
//!
//! Reads are repeated after 429, 5xx, lost connections and cut bodies. Writes are repeated only where nothing can have
//! been executed: a refused connection, or 429 (answered before execution). A write whose answer is lost is
//! [`ApiError::Ambiguous`]; the caller looks and decides.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use kube::{
    client::Body,
    config::{Config, Kubeconfig},
};
use serde::Deserialize;
use tokio::time::timeout;
use velero_model::resource::ApiKind;

use super::{
    connect::{self, ConnectOptions},
    error::{ApiError, Status, chain},
    rate::Rate,
};

/// Tries of one request, the first included.
const TRIES: u32 = 7;

/// First pause between two tries; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(150);

/// Longest pause, also where a server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long an answer may take to begin, unless the user says otherwise.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);

/// How long a body may stand still.
const STALL: Duration = Duration::from_secs(30);

/// Largest body of anything that is not a list.
const BODY_MAX: usize = 64 << 20;

/// A connection to one API server; clones share it.
#[derive(Clone)]
pub struct ApiClient {
    shared: Arc<Shared>,
}

struct Shared {
    client: kube::Client,
    server: String,
    cluster_name: String,
    default_namespace: String,
    answer_within: Duration,
    rate: Option<Rate>,
}

/// Who a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// UID of `kube-system`; empty when the user may not read it.
    pub uid: String,
    /// Context name.
    pub name: String,
    /// `gitVersion`.
    pub version: String,
}

/// How a PATCH is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchKind {
    /// JSON merge patch.
    Merge,
    /// JSON patch.
    Json,
    /// Server-side apply.
    Apply {
        /// Field manager.
        manager: String,
        /// Take fields away from other managers.
        force: bool,
    },
}

/// Path of one object.
pub fn object_path(kind: &ApiKind, namespace: Option<&str>, name: &str) -> String {
    format!("{}/{}", kind.collection_path(namespace), encode(name))
}

/// Percent-encodes everything that may not stand in a path segment or a query value.
pub(super) fn encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut encoded, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                // Writing into a String cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
            encoded
        })
}

/// One request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) accept: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    pub(super) limit: usize,
    /// Bytes that the answer probably has, so that it is not moved while it grows; 0 where nobody knows.
    pub(super) expected: usize,
}

pub(super) const JSON: &str = "application/json";

impl<'a> Call<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            accept: JSON,
            content_type: JSON,
            body: Bytes::new(),
            limit: BODY_MAX,
            expected: 0,
        }
    }

    fn write(method: Method, path: &'a str, body: Bytes) -> Self {
        Self {
            method,
            body,
            ..Self::get(path)
        }
    }

    /// The request in words, without the query: continue tokens say nothing to a person.
    fn what(&self) -> String {
        format!(
            "{} {}",
            self.method,
            self.path.split('?').next().unwrap_or(self.path)
        )
    }

    fn is_read(&self) -> bool {
        self.method == Method::GET
    }
}

/// What became of one try.
enum Tried {
    Answer(Bytes),
    Again {
        error: ApiError,
        after: Option<Duration>,
    },
    Failed(ApiError),
}

impl ApiClient {
    /// The client below, for what is no request and answer: connections into pods.
    pub(crate) fn kube(&self) -> kube::Client {
        self.shared.client.clone()
    }

    /// Prepares a connection. No request is made.
    ///
    /// # Errors
    /// [`ApiError::Config`] when there is no usable kubeconfig.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ApiError> {
        let (config, cluster_name) = connect::configure(options).await?;
        Self::over_config(config, cluster_name, options)
    }

    /// Prepares a connection by a kubeconfig that is no file. No request is made.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn of_kubeconfig(kubeconfig: Kubeconfig) -> Result<Self, ApiError> {
        let options = ConnectOptions::default();
        let (config, cluster_name) = connect::configure_with(Some(kubeconfig), &options).await?;
        Self::over_config(config, cluster_name, &options)
    }

    fn over_config(config: Config, cluster_name: String, options: &ConnectOptions) -> Result<Self, ApiError> {
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let default_namespace = config.default_namespace.clone();
        let client = kube::Client::try_from(config).map_err(|error| ApiError::Config {
            problem: format!("no client can be made for {server}: {}", chain(&error)),
            next: "check the certificates and credentials of the context",
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                server,
                cluster_name,
                default_namespace,
                answer_within: options
                    .request_timeout
                    .filter(|limit| !limit.is_zero())
                    .unwrap_or(ANSWER_WITHIN),
                rate: Rate::new(options.requests_per_second),
            }),
        })
    }

    /// A client over anything that answers HTTP requests: what a real server will not do on demand.
    #[cfg(test)]
    pub(super) fn over(client: kube::Client) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                server: "https://test".into(),
                cluster_name: "test".into(),
                default_namespace: "default".into(),
                answer_within: Duration::from_millis(500),
                rate: None,
            }),
        }
    }

    /// Name of the context.
    pub fn cluster_name(&self) -> &str {
        &self.shared.cluster_name
    }

    /// URL of the server.
    pub fn server(&self) -> &str {
        &self.shared.server
    }

    /// The context's namespace.
    pub fn default_namespace(&self) -> &str {
        &self.shared.default_namespace
    }

    /// Who the cluster is. The UID stays empty where the user may not read `kube-system`.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn identity(&self) -> Result<ClusterIdentity, ApiError> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Object {
            metadata: Metadata,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Metadata {
            uid: String,
        }
        let uid = async {
            match self.get("/api/v1/namespaces/kube-system").await {
                Ok(body) => Ok(body
                    .and_then(|body| serde_json::from_slice::<Object>(&body).ok())
                    .map(|object| object.metadata.uid)
                    .unwrap_or_default()),
                Err(error) if error.is_forbidden() => Ok(String::new()),
                Err(error) => Err(error),
            }
        };
        let (uid, version) = tokio::try_join!(uid, self.version())?;
        Ok(ClusterIdentity {
            uid,
            name: self.cluster_name().to_owned(),
            version,
        })
    }

    /// `gitVersion` of the server.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn version(&self) -> Result<String, ApiError> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "gitVersion")]
            git_version: String,
        }
        let body = self.call(Call::get("/version")).await?;
        serde_json::from_slice::<Version>(&body)
            .map(|version| version.git_version)
            .map_err(|_| ApiError::Parse {
                what: "GET /version".into(),
                expected: "version document",
            })
    }

    /// Reads one object or document; `None` when it does not exist.
    ///
    /// # Errors
    /// [`ApiError`] for everything but 404.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, ApiError> {
        match self.call(Call::get(path)).await {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object below the collection `path`; gives the object as the server made it.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::Ambiguous`] when it may have been created.
    pub async fn create(&self, path: &str, body: Bytes) -> Result<Bytes, ApiError> {
        self.call(Call::write(Method::POST, path, body)).await
    }

    /// Replaces the object at `path`.
    ///
    /// # Errors
    /// As [`ApiClient::create`].
    pub async fn replace(&self, path: &str, body: Bytes) -> Result<Bytes, ApiError> {
        self.call(Call::write(Method::PUT, path, body)).await
    }

    /// Patches the object at `path`.
    ///
    /// # Errors
    /// As [`ApiClient::create`].
    pub async fn patch(&self, path: &str, kind: &PatchKind, body: Bytes) -> Result<Bytes, ApiError> {
        let (content_type, path) = match kind {
            PatchKind::Merge => ("application/merge-patch+json", path.to_owned()),
            PatchKind::Json => ("application/json-patch+json", path.to_owned()),
            PatchKind::Apply { manager, force } => (
                "application/apply-patch+yaml",
                format!(
                    "{path}{}fieldManager={}&force={force}",
                    if path.contains('?') { '&' } else { '?' },
                    encode(manager)
                ),
            ),
        };
        self.call(Call {
            content_type,
            ..Call::write(Method::PATCH, &path, body)
        })
        .await
    }

    /// Deletes the object at `path`; done already if it is not there.
    ///
    /// # Errors
    /// As [`ApiClient::create`].
    pub async fn delete(&self, path: &str) -> Result<(), ApiError> {
        self.delete_with(path, Bytes::new()).await
    }

    /// As [`ApiClient::delete`], with DeleteOptions.
    ///
    /// # Errors
    /// As [`ApiClient::create`].
    pub async fn delete_with(&self, path: &str, options: Bytes) -> Result<(), ApiError> {
        match self.call(Call::write(Method::DELETE, path, options)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// The body of an answer as it comes, for as long as it takes: a log that is followed.
    ///
    /// # Errors
    /// When the answer is no success; what breaks later is in the stream.
    pub async fn stream(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, ApiError>> + Unpin + use<>, ApiError> {
        let what = format!("GET {}", path.split('?').next().unwrap_or(path));
        let server = self.shared.server.clone();
        let lost = |source: Box<dyn StdError + Send + Sync>| ApiError::Cut {
            what: what.clone(),
            server: server.clone(),
            source,
        };
        let request = Request::get(path)
            .body(Body::empty())
            .map_err(|error| lost(Box::new(error)))?;
        let response = self
            .shared
            .client
            .send(request)
            .await
            .map_err(|error| lost(Box::new(error)))?;
        let code = response.status().as_u16();
        if !(200..300).contains(&code) {
            let body = self.read_body(&Call::get(path), response.into_body()).await?;
            return Err(ApiError::from_answer(&what, code, &body));
        }
        Ok(response
            .into_body()
            .into_data_stream()
            .map_err(move |source| ApiError::Cut {
                what: what.clone(),
                server: server.clone(),
                source: Box::new(source),
            }))
    }

    /// Sends a request until it is answered or may not be repeated.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Bytes, ApiError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match self.attempt(&call).await {
                Tried::Answer(body) => return Ok(body),
                Tried::Failed(error) => return Err(error),
                Tried::Again { error, .. } if attempt >= TRIES => return Err(error),
                Tried::Again { after, .. } => {
                    tokio::time::sleep(after.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        unreachable!("the loop only ends by returning")
    }

    async fn attempt(&self, call: &Call<'_>) -> Tried {
        if let Some(rate) = &self.shared.rate {
            rate.wait().await;
        }
        let request = Request::builder()
            .method(call.method.clone())
            .uri(call.path)
            .header(header::ACCEPT, call.accept)
            .header(header::CONTENT_TYPE, call.content_type)
            .body(Body::from(call.body.clone()));
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                let problem = format!("`{}` is no path of an API server: {error}", call.path);
                return Tried::Failed(ApiError::Config {
                    problem,
                    next: "check the object's name",
                });
            }
        };
        match timeout(self.shared.answer_within, self.shared.client.send(request)).await {
            Ok(Ok(response)) => self.judge(call, response).await,
            Ok(Err(error)) => self.lost(call, Box::new(error)),
            Err(_) => {
                let error = ApiError::Timeout {
                    what: call.what(),
                    server: self.shared.server.clone(),
                    after: self.shared.answer_within,
                };
                if call.is_read() {
                    Tried::Failed(error)
                } else {
                    Tried::Failed(self.ambiguous(call, Box::new(error)))
                }
            }
        }
    }

    async fn judge(&self, call: &Call<'_>, response: Response<Body>) -> Tried {
        let code = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = match self.read_body(call, response.into_body()).await {
            Ok(body) => body,
            Err(error @ ApiError::TooLarge { .. }) => return Tried::Failed(error),
            Err(error) if call.is_read() => return Tried::Again { error, after: None },
            // The server has answered a write: what it did is known, only the words are lost.
            Err(error) if (200..300).contains(&code) => {
                return Tried::Failed(self.ambiguous(call, Box::new(error)));
            }
            Err(_) => Bytes::new(),
        };
        if (200..300).contains(&code) {
            return Tried::Answer(body);
        }
        let error = ApiError::from_answer(&call.what(), code, &body);
        match code {
            429 => {
                let asked = serde_json::from_slice::<Status>(&body)
                    .ok()
                    .and_then(|status| status.details);
                let asked = asked.map(|details| Duration::from_secs(details.retry_after_seconds));
                Tried::Again {
                    error,
                    after: retry_after.or(asked).filter(|pause| !pause.is_zero()),
                }
            }
            500 | 502..=504 if call.is_read() => Tried::Again {
                error,
                after: retry_after,
            },
            502..=504 => Tried::Failed(self.ambiguous(call, Box::new(error))),
            _ => Tried::Failed(error),
        }
    }

    async fn read_body(&self, call: &Call<'_>, mut body: Body) -> Result<Bytes, ApiError> {
        let mut bytes = BytesMut::with_capacity(call.expected);
        loop {
            let frame = timeout(STALL, body.frame())
                .await
                .map_err(|_| ApiError::Timeout {
                    what: call.what(),
                    server: self.shared.server.clone(),
                    after: STALL,
                })?;
            let frame = match frame {
                None => return Ok(bytes.freeze()),
                Some(Ok(frame)) => frame,
                Some(Err(source)) => {
                    let (what, server) = (call.what(), self.shared.server.clone());
                    return Err(ApiError::Cut {
                        what,
                        server,
                        source: Box::new(source),
                    });
                }
            };
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > call.limit {
                    return Err(ApiError::TooLarge {
                        what: call.what(),
                        limit: call.limit,
                    });
                }
                bytes.extend_from_slice(&data);
            }
        }
    }

    fn lost(&self, call: &Call<'_>, source: Box<kube::Error>) -> Tried {
        let (what, server) = (call.what(), self.shared.server.clone());
        if matches!(*source, kube::Error::Auth(_)) {
            let problem = format!(
                "the credentials of context `{}` cannot be used: {}",
                self.shared.cluster_name,
                chain(&*source)
            );
            return Tried::Failed(ApiError::Config {
                problem,
                next: "log in again, or choose another --context or --user",
            });
        }
        let nothing_sent = is_connect_error(&*source);
        if nothing_sent || call.is_read() {
            return Tried::Again {
                error: ApiError::Unreachable { what, server, source },
                after: None,
            };
        }
        Tried::Failed(self.ambiguous(call, source))
    }

    fn ambiguous(&self, call: &Call<'_>, source: Box<dyn StdError + Send + Sync>) -> ApiError {
        ApiError::Ambiguous {
            what: call.what(),
            server: self.shared.server.clone(),
            source,
        }
    }
}

/// Whether the connection never came about, so that no byte of the request was sent.
fn is_connect_error(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_paths() {
        assert_eq!(encode("system:node"), "system:node");
        assert_eq!(encode("a/b c%"), "a%2Fb%20c%25");
    }
}
