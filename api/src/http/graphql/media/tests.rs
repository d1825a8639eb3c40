use async_graphql::parser::types::OperationType::{Mutation, Query, Subscription};
use axum::http::HeaderValue;

use super::*;

fn of(fields: &[&'static str]) -> Option<Wanted> {
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(header::ACCEPT, HeaderValue::from_static(field));
    }
    Wanted::of(&headers)
}

#[test]
fn the_media_type_that_is_wanted_most_is_answered() {
    let cases: [(&[&'static str], Option<Media>); 14] = [
        (&[], Some(Media::Json)),
        (&["*/*"], Some(Media::Json)),
        (&["application/*"], Some(Media::Json)),
        (&["Application/JSON; charset=utf-8"], Some(Media::Json)),
        (&["application/graphql-response+json"], Some(Media::Response)),
        (&["application/graphql-response+json, application/json"], Some(Media::Response)),
        (&["application/json, application/graphql-response+json"], Some(Media::Json)),
        (&["application/json;q=0.5, application/graphql-response+json"], Some(Media::Response)),
        (&["application/json; q=0.5", "application/graphql-response+json; q=0.9"], Some(Media::Response)),
        (&["text/html, */*;q=0.1"], Some(Media::Json)),
        (&["application/json;q=0"], None),
        (&["application/json;q=much"], None),
        (&["text/html"], None),
        (&[""], None),
    ];
    for (fields, expected) in cases {
        for kind in [Query, Mutation] {
            assert_eq!(of(fields).and_then(|wanted| wanted.answer(kind)), expected, "{fields:?}");
        }
        assert_eq!(of(fields).and_then(|wanted| wanted.answer(Subscription)), None, "{fields:?}");
    }
}

#[test]
fn streams_are_answered_to_who_names_them() {
    let apollo_ios = "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0,application/graphql-response+json,application/json";
    let (json, events, parts) = (Some(Media::Json), Some(Media::Events), Some(Media::Parts));
    let response = Some(Media::Response);
    // Accept, then the answer to a subscription, to a query, and that of refusals.
    let cases = [
        ("text/event-stream", events, events, Media::Response),
        ("text/event-stream;q=0.5, application/json", events, json, Media::Json),
        ("text/event-stream, application/json", events, events, Media::Response),
        ("multipart/mixed;subscriptionSpec=1.0", parts, parts, Media::Response),
        ("multipart/mixed; SubscriptionSpec=\"1.0\"; boundary=x", parts, parts, Media::Response),
        (apollo_ios, parts, response, Media::Response),
        ("multipart/mixed;subscriptionSpec=1.0, application/json", parts, json, Media::Json),
        ("multipart/mixed;deferSpec=20220824, application/json", None, json, Media::Json),
        (
            "multipart/mixed;deferSpec=20220824, multipart/mixed;subscriptionSpec=1.0, */*",
            parts,
            json,
            Media::Json,
        ),
    ];
    for (accept, subscription, query, refusal) in cases {
        let wanted = of(&[accept]).unwrap_or_else(|| panic!("{accept}"));
        let got = (wanted.answer(Subscription), wanted.answer(Query), wanted.refusal());
        assert_eq!(got, (subscription, query, refusal), "{accept}");
    }
    for accept in ["multipart/mixed", "multipart/mixed;subscriptionSpec=2.0", "multipart/mixed;deferSpec=1"] {
        assert_eq!(of(&[accept]), None, "{accept}");
    }
}
