use std::time::Duration;

use axum::body::to_bytes;

use super::*;
use crate::limiter::Level;

#[tokio::test]
async fn a_refusal_says_its_status_in_its_problem_too_and_what_would_be_taken() {
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
    for (error, status, expected, told, named) in cases {
        let response = refuse(&error, status, Media::Json, "id");
        assert_eq!(response.status().as_u16(), expected, "{error:?}");
        for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER, header::ALLOW] {
            let value = response.headers().get(&name).and_then(|value| value.to_str().ok());
            let wanted = named.as_ref().filter(|(wanted, _)| *wanted == name).map(|(_, value)| *value);
            assert_eq!(value, wanted, "{error:?}: {name}");
        }
        let body = to_bytes(response.into_body(), 4_096).await.expect("the body is short");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("the body is JSON");
        let extensions = &body["errors"][0]["extensions"];
        assert_eq!(extensions["problem"]["status"], told, "{body}");
        assert_eq!(extensions["problem"]["code"], extensions["code"], "{body}");
        assert_eq!(body.get("data"), None);
    }
}

#[test]
fn what_can_only_be_had_later_is_503_if_nothing_was_done() {
    let error = |error: ApiError| {
        let mut error = error.to_server_error();
        error.path = vec![async_graphql::PathSegment::Field("createEvent".to_owned())];
        error
    };
    let away = || error(ApiError::Unavailable);
    let cases = [
        (vec![away()], async_graphql::Value::Null, 503),
        (vec![away(), away()], async_graphql::Value::Null, 503),
        (vec![away(), error(ApiError::Internal)], async_graphql::Value::Null, 200),
        (vec![away()], async_graphql::Value::from(1), 200),
        (Vec::new(), async_graphql::Value::Null, 200),
    ];
    for (errors, data, expected) in cases {
        let mut answer = async_graphql::Response::new(data);
        answer.errors = errors;
        for media in [Media::Json, Media::Response] {
            let response = write(&answer, media);
            assert_eq!(response.status().as_u16(), expected, "{answer:?}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), expected == 503);
        }
    }
}
