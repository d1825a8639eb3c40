use async_graphql::parser::types::OperationType::{Mutation, Query, Subscription};
use axum::http::HeaderValue;

use super::*;

fn accepted(fields: &[&'static str]) -> Option<Accepted> {
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(header::ACCEPT, HeaderValue::from_static(field));
    }
    Accepted::from_headers(&headers)
}

#[test]
fn the_media_type_with_the_highest_quality_is_chosen() {
    let cases: [(&[&'static str], Option<Media>); 14] = [
        (&[], Some(Media::Json)),
        (&["*/*"], Some(Media::Json)),
        (&["application/*"], Some(Media::Json)),
        (&["Application/JSON; charset=utf-8"], Some(Media::Json)),
        (&["application/graphql-response+json"], Some(Media::GraphqlResponse)),
        (&["application/graphql-response+json, application/json"], Some(Media::GraphqlResponse)),
        (&["application/json, application/graphql-response+json"], Some(Media::Json)),
        (&["application/json;q=0.5, application/graphql-response+json"], Some(Media::GraphqlResponse)),
        (
            &["application/json; q=0.5", "application/graphql-response+json; q=0.9"],
            Some(Media::GraphqlResponse),
        ),
        (&["text/html, */*;q=0.1"], Some(Media::Json)),
        (&["application/json;q=0"], None),
        (&["application/json;q=much"], None),
        (&["text/html"], None),
        (&[""], None),
    ];
    for (fields, expected) in cases {
        for operation_type in [Query, Mutation] {
            let media = accepted(fields).and_then(|accepted| accepted.operation_media(operation_type));
            assert_eq!(media, expected, "{fields:?}");
        }
        let stream = accepted(fields).and_then(|accepted| accepted.operation_media(Subscription));
        assert_eq!(stream, None, "{fields:?}");
    }
}

#[test]
fn streams_are_chosen_for_clients_that_name_them() {
    let apollo_ios = "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0,application/graphql-response+json,application/json";
    let (json, event_stream, multipart) =
        (Some(Media::Json), Some(Media::EventStream), Some(Media::Multipart));
    let graphql_response = Some(Media::GraphqlResponse);
    // `Accept`, then the media types of a subscription, of a query, and of an error.
    let cases = [
        ("text/event-stream", event_stream, event_stream, Media::GraphqlResponse),
        ("text/event-stream;q=0.5, application/json", event_stream, json, Media::Json),
        ("text/event-stream, application/json", event_stream, event_stream, Media::GraphqlResponse),
        ("multipart/mixed;subscriptionSpec=1.0", multipart, multipart, Media::GraphqlResponse),
        (
            "multipart/mixed; SubscriptionSpec=\"1.0\"; boundary=x",
            multipart,
            multipart,
            Media::GraphqlResponse,
        ),
        (apollo_ios, multipart, graphql_response, Media::GraphqlResponse),
        ("multipart/mixed;subscriptionSpec=1.0, application/json", multipart, json, Media::Json),
        ("multipart/mixed;deferSpec=20220824, application/json", None, json, Media::Json),
        (
            "multipart/mixed;deferSpec=20220824, multipart/mixed;subscriptionSpec=1.0, */*",
            multipart,
            json,
            Media::Json,
        ),
    ];
    for (accept, subscription, query, error) in cases {
        let accepted = accepted(&[accept]).unwrap_or_else(|| panic!("{accept}"));
        let chosen =
            (accepted.operation_media(Subscription), accepted.operation_media(Query), accepted.error_media());
        assert_eq!(chosen, (subscription, query, error), "{accept}");
    }
    for accept in ["multipart/mixed", "multipart/mixed;subscriptionSpec=2.0", "multipart/mixed;deferSpec=1"] {
        assert_eq!(accepted(&[accept]), None, "{accept}");
    }
}
