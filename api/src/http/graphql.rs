//! `/graphql`: GraphQL over HTTP, one request a call.

use std::sync::Arc;

use async_graphql::parser::types::{ExecutableDocument, OperationType};
use async_graphql::{Request, Response as Answer, Value};
use axum::Extension;
use axum::body::Body as HttpBody;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::commands::Actor;
use domain::limits::BODY_BYTES_MAX;
use serde::Deserialize;
use serde_json::json;

use super::variables::{Body, variables};
use super::{App, RequestId, body, explain};
use crate::error::{ApiError, complete};
use crate::{gate, graphql};

const JSON: &str = "application/json";
const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Media(&'static str);

/// What the client likes best, as GraphQL over HTTP negotiates it; plain JSON when it does not say.
fn negotiate(headers: &HeaderMap) -> Option<Media> {
    if !headers.contains_key(header::ACCEPT) {
        return Some(Media(JSON));
    }
    let fields = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut best = None;
    for (media, quality) in fields.flat_map(|field| field.split(',')).filter_map(weigh) {
        // Of equal ones the first.
        if quality > best.map_or(0.0, |(_, most)| most) {
            best = Some((media, quality));
        }
    }
    best.map(|(media, _)| media)
}

/// A range of `Accept` that we can answer, and how much it is wanted (RFC 9110, section 12.4.2).
fn weigh(range: &str) -> Option<(Media, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let media = match parts.next()?.to_ascii_lowercase().as_str() {
        GRAPHQL_RESPONSE => Media(GRAPHQL_RESPONSE),
        JSON | "*/*" | "application/*" => Media(JSON),
        _ => return None,
    };
    let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    Some((media, weight.map_or(1.0, |text| text.parse().unwrap_or(0.0))))
}

/// `POST /graphql`
pub(super) async fn post(
    State(app): State<App>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    http_body: HttpBody,
) -> Response {
    let media = negotiate(&headers).unwrap_or(Media(JSON));
    let actor = match app.keys.authenticate(&headers, &app.services.store).await {
        Ok(actor) => actor,
        Err(error) => {
            body::drain_anonymous(http_body).await;
            return refuse(&error, None, media, &id);
        }
    };
    if let Some(response) = refuse_headers(&headers, media, &id) {
        body::drain(http_body, BODY_BYTES_MAX).await;
        return response;
    }
    let (bytes, _room) = match body::read(&app.bodies, &headers, http_body).await {
        Ok(read) => read,
        Err(error) => return refuse(&error, None, media, &id),
    };
    match Body::read(&bytes) {
        Ok(body) => run(&app, actor, body, false, media, &id).await,
        Err(error) => refuse(&error, None, media, &id),
    }
}

fn refuse_headers(headers: &HeaderMap, media: Media, request_id: &str) -> Option<Response> {
    let bad = |detail: &str| ApiError::BadUserInput(detail.to_owned());
    if negotiate(headers).is_none() {
        let error = bad("answers are application/json or application/graphql-response+json");
        return Some(refuse(&error, Some(StatusCode::NOT_ACCEPTABLE), media, request_id));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(JSON));
    let is_utf8 = parts
        .all(|part| !part.to_lowercase().starts_with("charset=") || part.to_lowercase().contains("utf-8"));
    if is_json && is_utf8 {
        return None;
    }
    let error = bad("the body must be application/json in UTF-8");
    Some(refuse(&error, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), media, request_id))
}

/// The parameters of `GET /graphql`.
#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<String>,
}

/// `GET /graphql`: queries only.
pub(super) async fn get(
    State(app): State<App>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let media = negotiate(&headers).unwrap_or(Media(JSON));
    let actor = match app.keys.authenticate(&headers, &app.services.store).await {
        Ok(actor) => actor,
        Err(error) => return refuse(&error, None, media, &id),
    };
    let bad = |detail: &str| ApiError::BadUserInput(detail.to_owned());
    if negotiate(&headers).is_none() {
        let error = bad("answers are application/json or application/graphql-response+json");
        return refuse(&error, Some(StatusCode::NOT_ACCEPTABLE), media, &id);
    }
    let Ok(Query(Parameters { query: Some(query), operation_name, variables: text })) = parameters else {
        return refuse(&bad("query is missing"), None, media, &id);
    };
    match text.as_deref().map(variables).transpose() {
        Ok(variables) => {
            let body = Body { query, operation_name, variables: variables.unwrap_or_default() };
            run(&app, actor, body, true, media, &id).await
        }
        Err(error) => refuse(&error, None, media, &id),
    }
}

/// Any other method.
pub(super) async fn other_method(
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
) -> Response {
    let media = negotiate(&headers).unwrap_or(Media(JSON));
    let error = ApiError::BadUserInput("POST a request, or GET a query".to_owned());
    refuse(&error, Some(StatusCode::METHOD_NOT_ALLOWED), media, &id)
}

async fn run(app: &App, actor: Actor, body: Body, is_get: bool, media: Media, request_id: &str) -> Response {
    let document = match admit(app, &body.query) {
        Ok(document) => document,
        // GraphQL over HTTP: a well-formed request whose document is refused is 200 in plain JSON.
        Err(error) => return refuse(&error, (media.0 == JSON).then_some(StatusCode::OK), media, request_id),
    };
    let is_mutation = mutates(&document, body.operation_name.as_deref());
    if is_get && is_mutation {
        let error = ApiError::BadUserInput("GET takes queries only".to_owned());
        return refuse(&error, Some(StatusCode::METHOD_NOT_ALLOWED), media, request_id);
    }
    let mut request = Request::new(body.query).variables(body.variables);
    request.operation_name = body.operation_name;
    request.set_parsed_query(ExecutableDocument::clone(&document));
    let request = graphql::speak_for(request, actor, &app.services.store);
    let mut answer = if is_mutation {
        // Begun, it runs to its end even if the client hangs up: a future dropped in the middle would
        // leave its connection inside a transaction.
        let schema = app.schema.clone();
        let running = app.tracker.spawn(async move { schema.execute(request).await });
        match running.await {
            Ok(answer) => answer,
            Err(_) => return refuse(&ApiError::Internal, None, media, request_id),
        }
    } else {
        app.schema.execute(request).await
    };
    complete(&mut answer, request_id);
    write(&answer, media)
}

/// The parsed document, from the cache or through the gate.
fn admit(app: &App, text: &str) -> Result<Arc<ExecutableDocument>, ApiError> {
    let cached = app.documents.lock().ok().and_then(|mut documents| documents.get(text).map(Arc::clone));
    if let Some(document) = cached {
        return Ok(document);
    }
    let document = Arc::new(gate::admit(text)?);
    if let Ok(mut documents) = app.documents.lock() {
        documents.put(text.to_owned(), Arc::clone(&document));
    }
    Ok(document)
}

fn mutates(document: &ExecutableDocument, operation_name: Option<&str>) -> bool {
    document.operations.iter().any(|(name, operation)| {
        let is_asked = operation_name.is_none_or(|asked| name.is_none_or(|name| name.as_str() == asked));
        is_asked && operation.node.ty == OperationType::Mutation
    })
}

/// Nothing was executed: neither data nor any error of a field.
fn is_refused(answer: &Answer) -> bool {
    !answer.errors.is_empty()
        && answer.data == Value::Null
        && answer.errors.iter().all(|error| error.path.is_empty())
}

fn write(answer: &Answer, media: Media) -> Response {
    let refused = is_refused(answer);
    let text = if refused {
        json!({ "errors": answer.errors }).to_string()
    } else {
        serde_json::to_string(answer).unwrap_or_default()
    };
    let status =
        if refused && media.0 == GRAPHQL_RESPONSE { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let kind = format!("{}; charset=utf-8", media.0);
    (status, [(header::CONTENT_TYPE, kind)], text).into_response()
}

fn refuse(error: &ApiError, status: Option<StatusCode>, media: Media, request_id: &str) -> Response {
    let own = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let status = status.unwrap_or(own);
    let mut answer = Answer::from_errors(vec![error.to_server_error()]);
    complete(&mut answer, request_id);
    // RFC 9457: the status of a problem is that of its answer. In plain JSON a refused document is 200,
    // which no problem is.
    let told = if status.is_success() { own } else { status };
    let mut problem = error.problem(request_id);
    problem["status"] = told.as_u16().into();
    for error in &mut answer.errors {
        let problem = Value::from_json(problem.clone()).unwrap_or_default();
        error.extensions.get_or_insert_default().set("problem", problem);
    }
    let mut response = write(&answer, media);
    *response.status_mut() = status;
    explain(&mut response);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}

#[cfg(test)]
mod tests;
