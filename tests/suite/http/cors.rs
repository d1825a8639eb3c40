//! Tests CORS: which origins may call, and with which headers.

use reqwest::header::HeaderMap;
use service::Clock;

use crate::harness::{DatabaseKind, TestServer, keys};

const APP: &str = "https://app.example";

async fn preflight(server: &TestServer, origin: &str, headers: &str) -> HeaderMap {
    let request =
        server.client("ann").http.request(reqwest::Method::OPTIONS, format!("{}/graphql", server.url));
    let request = request.header("origin", origin).header("access-control-request-method", "POST");
    let response = request.header("access-control-request-headers", headers).send().await.unwrap();
    response.headers().clone()
}

fn listed(headers: &HeaderMap, name: &str) -> Vec<String> {
    let value = headers.get(name).map_or("", |value| value.to_str().unwrap());
    value.split(',').map(|item| item.trim().to_lowercase()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_origin_may_send_the_headers_of_the_usual_libraries() {
    let server =
        TestServer::open_as(DatabaseKind::Sqlite, keys().await, Clock::System, &[APP], |notifier| notifier)
            .await;
    let sent = "authorization,content-type,content-encoding,apollographql-client-name,apollographql-client-version,\
        apollo-require-preflight,x-apollo-operation-name,x-apollo-operation-id,graphql-client-name,\
        graphql-client-version,baggage,sentry-trace,traceparent,tracestate,upload-offset,x-request-id,x-my-header";
    let response = preflight(&server, APP, sent).await;
    assert_eq!(response["access-control-allow-origin"], APP);
    let allowed = listed(&response, "access-control-allow-headers");
    for name in sent.split(',') {
        assert!(allowed.contains(&name.to_owned()), "{name} is not among {allowed:?}");
    }
    assert!(!allowed.contains(&"x-other".to_owned()) && !allowed.contains(&"*".to_owned()));
    assert!(response.contains_key("x-request-id"), "a preflight has an id as well");
    // A page may read every refusal, even those of the router.
    for path in ["/nothing", "/imports/%ff/report", "/imports/preview"] {
        let request = server.client("ann").http.get(format!("{}{path}", server.url)).header("origin", APP);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], APP, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
        assert_eq!(response.bytes().await.unwrap().len(), length, "{path}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_origin_is_allowed_nothing() {
    let server = TestServer::open_as(
        DatabaseKind::Sqlite,
        keys().await,
        Clock::System,
        &[APP, "http://localhost:*", "http://10.0.0.1:*"],
        |notifier| notifier,
    )
    .await;
    for origin in [
        "https://evil.example",
        "https://app.example.evil",
        "http://app.example",
        "null",
        "http://localhost.evil",
        "http://localhost1",
        "http://localhost:",
        "http://10.0.0.12",
        "http://10.0.0.1:80.evil",
    ] {
        let response = preflight(&server, origin, "authorization").await;
        assert!(!response.contains_key("access-control-allow-origin"), "{origin}: {response:?}");
        let request = server.client("ann").http.get(format!("{}/livez", server.url)).header("origin", origin);
        let response = request.send().await.unwrap();
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin}");
    }
    let response = preflight(&server, "http://localhost:5173", "authorization").await;
    assert_eq!(response["access-control-allow-origin"], "http://localhost:5173");
    server.end().await;
}
