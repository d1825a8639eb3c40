//! What the client takes: `Accept`, as GraphQL over HTTP and the two streaming protocols read it.

use async_graphql::parser::types::OperationType;
use axum::http::{HeaderMap, header};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`
    Json,
    /// `application/graphql-response+json`
    Response,
    /// `text/event-stream`: graphql-sse, distinct connections.
    Events,
    /// `multipart/mixed;subscriptionSpec=1.0`: Apollo's multipart subscriptions.
    Parts,
}

/// What a client wants to be answered in: of all that it takes the best, the best that is one answer,
/// and the best that is a stream of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    best: Media,
    one: Option<Media>,
    stream: Option<Media>,
}

impl Wanted {
    /// Reads `Accept`; plain JSON when it is not there, none when we speak nothing of it.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(header::ACCEPT) {
            return Some(Self { best: Media::Json, one: Some(Media::Json), stream: None });
        }
        let fields = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<_> = fields.flat_map(|field| field.split(',')).filter_map(weigh).collect();
        let one = |media: &Media| matches!(media, Media::Json | Media::Response);
        Some(Self {
            best: most(&ranges, |_| true)?,
            one: most(&ranges, one),
            stream: most(&ranges, |media| !one(media)),
        })
    }

    /// In what a refusal is written that comes instead of any answer.
    pub(super) fn refusal(self) -> Media {
        match self.best {
            // graphql-sse: a stream that does not begin is a status of 4xx.
            Media::Events => Media::Response,
            _ => self.one.unwrap_or(Media::Response),
        }
    }

    /// In what an operation is answered; none for a subscription when no stream is wanted.
    pub(super) fn answer(self, kind: OperationType) -> Option<Media> {
        match (kind, self.best) {
            (OperationType::Subscription, _) => self.stream,
            // Apollo's clients name it first, and mean it for subscriptions.
            (_, Media::Parts) => Some(self.one.unwrap_or(Media::Parts)),
            (_, best) => Some(best),
        }
    }
}

/// The media type of refusals where no body was looked at yet.
pub(super) fn refusal(wanted: Option<Wanted>) -> Media {
    wanted.map_or(Media::Json, Wanted::refusal)
}

fn most(ranges: &[(Media, f32)], fits: impl Fn(&Media) -> bool) -> Option<Media> {
    let mut best = None;
    for (media, quality) in ranges.iter().filter(|(media, _)| fits(media)) {
        // Of equal ones the first.
        if *quality > best.map_or(0.0, |(_, most)| most) {
            best = Some((*media, *quality));
        }
    }
    best.map(|(media, _)| media)
}

/// A range of `Accept` that we can answer, and how much it is wanted (RFC 9110, section 12.4.2).
fn weigh(range: &str) -> Option<(Media, f32)> {
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
        "application/graphql-response+json" => Media::Response,
        "application/json" | "*/*" | "application/*" => Media::Json,
        "text/event-stream" => Media::Events,
        // Without the parameter it is another protocol: answers in pieces (`deferSpec`).
        "multipart/mixed" if is_subscription => Media::Parts,
        _ => return None,
    };
    Some((media, quality))
}

#[cfg(test)]
mod tests;
