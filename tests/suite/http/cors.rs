//! Pages of other origins: which may call, and with which headers.

use reqwest::header::HeaderMap;
use service::Clock;

use crate::harness::{Column, TestServer, keys};

const APP: &str = "https://app.example";

async fn preflight(server: &TestServer, origin: &str, headers: &str) -> HeaderMap {
    let request =
        server.client("ann").http.request(reqwest::Method::OPTIONS, format!("{}/graphql", server.url));
    let request = request.header("origin", origin).header("access-control-request-method", "POST");
    let answer = request.header("access-control-request-headers", headers).send().await.unwrap();
    answer.headers().clone()
}

fn listed(headers: &HeaderMap, name: &str) -> Vec<String> {
    let value = headers.get(name).map_or("", |value| value.to_str().unwrap());
    value.split(',').map(|item| item.trim().to_lowercase()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_page_may_send_what_its_libraries_send() {
    let server =
        TestServer::open_as(Column::Sqlite, keys().await, Clock::System, &[APP], |notifier| notifier).await;
    let sent = "authorization,content-type,content-encoding,apollographql-client-name,apollographql-client-version,\
        apollo-require-preflight,x-apollo-operation-name,x-apollo-operation-id,graphql-client-name,\
        graphql-client-version,baggage,sentry-trace,traceparent,tracestate,upload-offset,x-request-id,x-my-header";
    let answer = preflight(&server, APP, sent).await;
    assert_eq!(answer["access-control-allow-origin"], APP);
    let allowed = listed(&answer, "access-control-allow-headers");
    for name in sent.split(',') {
        assert!(allowed.contains(&name.to_owned()), "{name} is not among {allowed:?}");
    }
    assert!(!allowed.contains(&"x-other".to_owned()) && !allowed.contains(&"*".to_owned()));
    assert!(answer.contains_key("x-request-id"), "a preflight has an id as well");
    // A page may read every refusal, also those of the router.
    for path in ["/nothing", "/imports/%ff/report", "/imports/preview"] {
        let request = server.client("ann").http.get(format!("{}{path}", server.url)).header("origin", APP);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], APP, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        assert_eq!(answer.bytes().await.unwrap().len(), length, "{path}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_is_allowed_nothing() {
    let server = TestServer::open_as(
        Column::Sqlite,
        keys().await,
        Clock::System,
        &[APP, "http://localhost:*"],
        |notifier| notifier,
    )
    .await;
    for origin in [
        "https://evil.example",
        "https://app.example.evil",
        "http://app.example",
        "null",
        "http://localhost.evil",
    ] {
        let answer = preflight(&server, origin, "authorization").await;
        assert!(!answer.contains_key("access-control-allow-origin"), "{origin}: {answer:?}");
        let request = server.client("ann").http.get(format!("{}/livez", server.url)).header("origin", origin);
        let answer = request.send().await.unwrap();
        assert!(!answer.headers().contains_key("access-control-allow-origin"), "{origin}");
    }
    let answer = preflight(&server, "http://localhost:5173", "authorization").await;
    assert_eq!(answer["access-control-allow-origin"], "http://localhost:5173");
    server.end().await;
}
