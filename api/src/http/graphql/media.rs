//! Chooses the media type of a response from `Accept`, by the rules of GraphQL over HTTP and of the two
//! streaming protocols.

use async_graphql::parser::types::OperationType;
use axum::http::{HeaderMap, header};

/// A media type that responses can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`
    Json,
    /// `application/graphql-response+json`
    GraphqlResponse,
    /// `text/event-stream`: graphql-sse in distinct connections mode.
    EventStream,
    /// `multipart/mixed;subscriptionSpec=1.0`: Apollo's multipart subscriptions.
    Multipart,
}

/// The media types of responses that a client prefers, by its `Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The media type that the client prefers of all supported ones.
    best: Media,
    /// The preferred media type for a single response. `None` if the client accepts none.
    single: Option<Media>,
    /// The preferred media type for a stream of responses. `None` if the client accepts none.
    stream: Option<Media>,
}

impl Accepted {
    /// Reads `Accept` of a request. A missing header means plain JSON. Returns `None` if the client accepts
    /// no supported type.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(header::ACCEPT) {
            return Some(Self { best: Media::Json, single: Some(Media::Json), stream: None });
        }
        let fields = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<_> =
            fields.flat_map(|field| field.split(',')).filter_map(parse_media_range).collect();
        let is_single = |media: &Media| matches!(media, Media::Json | Media::GraphqlResponse);
        Some(Self {
            best: preferred_media(&ranges, |_| true)?,
            single: preferred_media(&ranges, is_single),
            stream: preferred_media(&ranges, |media| !is_single(media)),
        })
    }

    /// The media type of a response to a request that was refused before its execution.
    pub(super) fn error_media(self) -> Media {
        match self.best {
            // graphql-sse: an error before the stream begins has a status 4xx, which plain JSON would not
            // have.
            Media::EventStream => Media::GraphqlResponse,
            _ => self.single.unwrap_or(Media::GraphqlResponse),
        }
    }

    /// The media type of the response to an operation. `None` for a subscription if the client accepts no
    /// stream.
    pub(super) fn operation_media(self, operation_type: OperationType) -> Option<Media> {
        match (operation_type, self.best) {
            (OperationType::Subscription, _) => self.stream,
            // Apollo's clients name this type first, but use it only for subscriptions.
            (_, Media::Multipart) => Some(self.single.unwrap_or(Media::Multipart)),
            (_, best) => Some(best),
        }
    }
}

/// The media type of a response to a refused request. It is plain JSON if the client accepts no supported
/// type.
pub(super) fn error_media_or_json(accepted: Option<Accepted>) -> Media {
    accepted.map_or(Media::Json, Accepted::error_media)
}

/// Returns the media type with the highest quality of those for which `is_eligible` is true, if any is
/// acceptable. `ranges` are pairs of media type and quality.
fn preferred_media(ranges: &[(Media, f32)], is_eligible: impl Fn(&Media) -> bool) -> Option<Media> {
    let mut best = None;
    for (media, quality) in ranges.iter().filter(|(media, _)| is_eligible(media)) {
        // The first one wins if several have the same quality. The quality 0 means "not acceptable".
        if *quality > best.map_or(0.0, |(_, highest)| highest) {
            best = Some((*media, *quality));
        }
    }
    best.map(|(media, _)| media)
}

/// Parses one media range of `Accept` and its quality (RFC 9110, section 12.4.2). `None` if the type is not
/// supported.
fn parse_media_range(range: &str) -> Option<(Media, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next()?.to_ascii_lowercase();
    let (mut quality, mut is_subscription) = (1.0, false);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().unwrap_or(0.0),
            "subscriptionspec" => is_subscription = value.trim().trim_matches('"') == "1.0",
            _ => {}
        }
    }
    let media = match name.as_str() {
        "application/graphql-response+json" => Media::GraphqlResponse,
        "application/json" | "*/*" | "application/*" => Media::Json,
        "text/event-stream" => Media::EventStream,
        // Without this parameter it is another protocol: incremental delivery (`deferSpec`).
        "multipart/mixed" if is_subscription => Media::Multipart,
        _ => return None,
    };
    Some((media, quality))
}

#[cfg(test)]
mod tests;
