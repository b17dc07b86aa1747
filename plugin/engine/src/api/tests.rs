//! What a real API server will not do on demand: busy answers, cut bodies, expired tokens, pages that are too large.
//!
//! The server is a list of answers; each test reads as a conversation, and an answer that nobody fetched fails it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use kube::client::Body;
use velero_model::resource::ApiKind;

use super::{ApiClient, ApiError, ListRequest, Pager};

type Answer = Box<
    dyn FnOnce(&Request<Body>) -> Result<Response<BoxBody<Bytes, std::io::Error>>, std::io::Error> + Send,
>;

/// A scripted server.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn of(answers: Vec<Answer>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into())),
            seen: Arc::default(),
        }
    }

    fn client(&self) -> ApiClient {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            script
                .seen
                .lock()
                .unwrap()
                .push(format!("{} {}", request.method(), request.uri()));
            let answer = script
                .answers
                .lock()
                .unwrap()
                .pop_front()
                .expect("a request that the script does not know");
            let answer = answer(&request);
            async move { answer.map_err(|error| Box::new(error) as Box<dyn std::error::Error + Send + Sync>) }
        });
        ApiClient::over(kube::Client::new(service, "default"))
    }

    fn seen(&self) -> Vec<String> {
        assert!(
            self.answers.lock().unwrap().is_empty(),
            "the script was not played to its end"
        );
        self.seen.lock().unwrap().clone()
    }
}

fn whole(code: u16, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    Box::new(move |_| {
        let body = http_body_util::Full::new(body)
            .map_err(|never: Infallible| match never {})
            .boxed();
        Ok(Response::builder().status(code).body(body).unwrap())
    })
}

fn busy() -> Answer {
    whole(
        429,
        r#"{"kind":"Status","reason":"TooManyRequests","message":"busy","details":{"retryAfterSeconds":0}}"#,
    )
}

fn cut(code: u16) -> Answer {
    Box::new(move |_| {
        let frames = vec![
            Ok(http_body::Frame::data(Bytes::from_static(b"{\"items\":"))),
            Err(std::io::Error::other("connection reset")),
        ];
        Ok(Response::builder()
            .status(code)
            .body(StreamBody::new(stream::iter(frames)).boxed())
            .unwrap())
    })
}

fn lost() -> Answer {
    Box::new(|_| Err(std::io::Error::other("connection reset")))
}

fn page(names: &[&str], next: &str) -> Answer {
    let items: Vec<String> = names
        .iter()
        .map(|name| format!(r#"{{"metadata":{{"name":"{name}","namespace":"a"}}}}"#))
        .collect();
    whole(
        200,
        format!(
            r#"{{"metadata":{{"continue":"{next}","resourceVersion":"7"}},"items":[{}]}}"#,
            items.join(",")
        ),
    )
}

fn expired(offer: &str) -> Answer {
    whole(
        410,
        format!(
            r#"{{"kind":"Status","reason":"Expired","message":"too old","metadata":{{"continue":"{offer}"}}}}"#
        ),
    )
}

fn pager(script: &Script) -> Pager {
    script.client().list(ListRequest {
        kind: ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: "pods".into(),
            kind: "Pod".into(),
            namespaced: true,
        },
        namespace: None,
        selector: "app in (a,b)".into(),
        metadata_only: false,
    })
}

async fn names(pager: &mut Pager) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    while let Some(page) = pager.next().await? {
        names.extend(
            page.objects()
                .map(|(_, head)| head.unwrap().metadata.name.into_owned()),
        );
    }
    Ok(names)
}

#[tokio::test(start_paused = true)]
async fn reads_are_repeated_until_they_are_whole() {
    let script = Script::of(vec![busy(), whole(503, ""), cut(200), lost(), whole(200, "{}")]);
    assert_eq!(
        script.client().get("/api/v1/pods/x").await.unwrap().unwrap(),
        "{}"
    );
    assert_eq!(script.seen().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn reads_give_up_with_the_last_reason() {
    let script = Script::of((0..7).map(|_| whole(503, "")).collect());
    let error = script.client().get("/api/v1/pods/x").await.unwrap_err();
    assert_eq!(error.code(), Some(503));
    assert!(error.to_string().starts_with("GET /api/v1/pods/x: "), "{error}");
    assert_eq!(script.seen().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn writes_are_repeated_only_where_nothing_was_done() {
    let script = Script::of(vec![busy(), busy(), whole(201, "{}")]);
    script
        .client()
        .create("/api/v1/pods", Bytes::from_static(b"{}"))
        .await
        .unwrap();
    assert_eq!(script.seen().len(), 3);
    for unknown in [lost(), cut(201), whole(504, "")] {
        let script = Script::of(vec![unknown]);
        let error = script
            .client()
            .create("/api/v1/pods", Bytes::from_static(b"{}"))
            .await
            .unwrap_err();
        assert!(matches!(error, ApiError::Ambiguous { .. }), "{error}");
        assert_eq!(script.seen(), [format!("{} /api/v1/pods", Method::POST)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let silent = tower::service_fn(|_: Request<Body>| async {
        tokio::time::sleep(Duration::from_hours(1)).await;
        Ok::<_, std::io::Error>(Response::new(http_body_util::Empty::<Bytes>::new()))
    });
    let client = ApiClient::over(kube::Client::new(silent, "default"));
    assert!(matches!(
        client.get("/version").await,
        Err(ApiError::Timeout { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_replaced_by_the_one_that_is_offered() {
    let script = Script::of(vec![page(&["a", "b"], "t1"), expired("t2"), page(&["c"], "")]);
    let mut pager = pager(&script);
    assert_eq!(names(&mut pager).await.unwrap(), ["a", "b", "c"]);
    assert!(!pager.is_point_in_time());
    let seen = script.seen();
    assert_eq!(
        seen[0],
        "GET /api/v1/pods?limit=100&labelSelector=app%20in%20%28a%2Cb%29"
    );
    assert!(seen[2].ends_with("&continue=t2"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn without_an_offer_the_list_begins_again_behind_the_last_object() {
    let script = Script::of(vec![
        page(&["a", "c"], "t1"),
        expired(""),
        page(&["a", "b", "c"], "t3"),
        page(&["d"], ""),
    ]);
    let mut pager = pager(&script);
    assert_eq!(names(&mut pager).await.unwrap(), ["a", "c", "d"]);
    assert!(!pager.is_point_in_time());
    script.seen();
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_too_large_is_asked_for_in_pieces() {
    let huge = whole(200, vec![b' '; 13 << 20]);
    let script = Script::of(vec![huge, page(&["a"], "t1"), page(&["b"], "")]);
    assert_eq!(names(&mut pager(&script)).await.unwrap(), ["a", "b"]);
    let seen = script.seen();
    assert!(seen[1].contains("limit=12&"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_says_so() {
    let denied = whole(403, r#"{"kind":"Status","reason":"Forbidden","message":"no"}"#);
    let script = Script::of(vec![page(&["a"], "t1"), denied]);
    let error = names(&mut pager(&script)).await.unwrap_err();
    assert!(error.is_forbidden());
    script.seen();
}

#[tokio::test]
async fn a_body_is_never_shown() {
    let script = Script::of(vec![whole(200, r#"{"items":[{"data":"c2VjcmV0"#)]);
    let error = names(&mut pager(&script)).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("c2VjcmV0"), "{error:?}");
}
