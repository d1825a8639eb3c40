use std::time::Duration;

use axum::body::to_bytes;

use super::*;
use crate::limiter::Level;

#[tokio::test]
async fn a_refusal_has_its_status_in_its_problem_and_the_headers_of_the_status() {
    let bad = || ApiError::BadUserInput("no".to_owned());
    let level = Level { points: 100, remaining: 7, point_every: Duration::from_millis(10) };
    let limited = ApiError::RateLimited { retry_after_ms: 1_001, level };
    let cases = [
        (
            ApiError::Unauthenticated,
            None,
            401,
            401,
            Some((header::WWW_AUTHENTICATE, "Bearer realm=\"idem\"")),
        ),
        (ApiError::PayloadTooLarge { max: 1 }, None, 413, 413, None),
        (ApiError::Unavailable, None, 503, 503, Some((header::RETRY_AFTER, "1"))),
        (limited, None, 429, 429, Some((header::RETRY_AFTER, "2"))),
        (bad(), None, 400, 400, None),
        (bad(), Some(StatusCode::OK), 200, 400, None),
        (bad(), Some(StatusCode::METHOD_NOT_ALLOWED), 405, 405, Some((header::ALLOW, "GET, HEAD, POST"))),
        (bad(), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), 415, 415, None),
    ];
    for (error, status, expected, problem_status, expected_header) in cases {
        let response = refusal_response(&error, status, Media::Json, "id");
        assert_eq!(response.status().as_u16(), expected, "{error:?}");
        for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER, header::ALLOW] {
            let value = response.headers().get(&name).and_then(|value| value.to_str().ok());
            let expected_value = expected_header
                .as_ref()
                .filter(|(expected_value, _)| *expected_value == name)
                .map(|(_, value)| *value);
            assert_eq!(value, expected_value, "{error:?}: {name}");
        }
        let body = to_bytes(response.into_body(), 4_096).await.expect("the body is short");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("the body is JSON");
        let extensions = &body["errors"][0]["extensions"];
        assert_eq!(extensions["problem"]["status"], problem_status, "{body}");
        assert_eq!(extensions["problem"]["code"], extensions["code"], "{body}");
        assert_eq!(body.get("data"), None);
    }
}

#[test]
fn a_response_is_503_if_nothing_was_done_and_every_error_is_unavailable() {
    let error = |error: ApiError| {
        let mut error = error.to_graphql_error();
        error.path = vec![async_graphql::PathSegment::Field("createEvent".to_owned())];
        error
    };
    let unavailable = || error(ApiError::Unavailable);
    let cases = [
        (vec![unavailable()], async_graphql::Value::Null, 503),
        (vec![unavailable(), unavailable()], async_graphql::Value::Null, 503),
        (vec![unavailable(), error(ApiError::Internal)], async_graphql::Value::Null, 200),
        (vec![unavailable()], async_graphql::Value::from(1), 200),
        (Vec::new(), async_graphql::Value::Null, 200),
    ];
    for (errors, data, expected) in cases {
        let mut graphql_response = async_graphql::Response::new(data);
        graphql_response.errors = errors;
        for media in [Media::Json, Media::GraphqlResponse] {
            let response = to_http_response(&graphql_response, media);
            assert_eq!(response.status().as_u16(), expected, "{graphql_response:?}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), expected == 503);
        }
    }
}
