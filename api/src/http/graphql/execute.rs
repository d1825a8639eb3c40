//! Prepares and executes a GraphQL request. All transports use this module.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::{ExecutableDocument, OperationDefinition, OperationType};
use async_graphql::{Request, Response as GraphqlResponse, Value};
use domain::limits::{RESPONSE_MS_MAX, STATS_MS_MAX};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use service::Actor;
use service::Error;
use service::detached::{Panicked, detach_on_drop};
use service::queries::stats::{TOO_SLOW, count_event_points};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::Instrument;
use uuid::Uuid;

use super::response::{graphql_error_response, is_request_error};
use crate::error::{ApiError, add_problems_to_errors};
use crate::graphql;
use crate::http::App;
use crate::http::documents::CachedDocument;
use crate::http::observe::RequestTrace;
use crate::http::persisted::{Hash, PersistedDocuments};
use crate::http::variables::Body;
use crate::limiter::Charge;
use crate::limiter::cost::{count_statistics, highest_operation_cost};

/// How long the execution of a request may take. Each SQL statement has its own timeout, but a request may
/// run many.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(RESPONSE_MS_MAX);
/// How long it may take to count the events of a user, before statistics are computed.
const STATISTICS_TIMEOUT: Duration = Duration::from_millis(STATS_MS_MAX);

/// A GraphQL request that is ready to be executed: its document is parsed and within the query limits.
pub(in crate::http) struct Operation {
    request: Request,
    user_id: Uuid,
    pub operation_type: OperationType,
    /// The points that the operation costs. After [`Self::take_points`] it also has the level of the user's
    /// bucket.
    pub charge: Charge,
    /// How often it asks for statistics. Their points are added when the points are taken.
    statistics: u64,
    document: Arc<CachedDocument>,
    /// Whether the request needs no validation.
    is_certainly_valid: bool,
    /// The document and its hash, to be stored after the execution. `None` if the client sent no hash.
    unpersisted: Option<UnpersistedDocument>,
    /// The memory and the other limited resources that the request occupies. A query or a mutation releases
    /// them when it has ended, even if its client disconnects before. A subscription releases them when it
    /// begins.
    permits: Vec<OwnedSemaphorePermit>,
}

impl Operation {
    /// Attaches the permits that a query or a mutation holds until it has ended, and a subscription until it
    /// begins.
    pub fn with_permits(self, permits: Vec<OwnedSemaphorePermit>) -> Self {
        Self { permits, ..self }
    }

    /// Takes the points of the operation from the rate limit of its user. This must be the last check before
    /// the execution, because points are never given back. If the operation asks for statistics, the points depend
    /// on how many events the user has.
    ///
    /// # Errors
    /// [`ApiError::RateLimited`] if the user has too few points left; [`ApiError::Unavailable`] if the events cannot
    /// be counted.
    pub async fn take_points(self, app: &App) -> Result<Self, ApiError> {
        if self.statistics == 0 {
            return self.take_points_and_more(app, 0);
        }
        let count = count_event_points(&app.services.store, self.user_id);
        let points = timeout(STATISTICS_TIMEOUT, count).await;
        let points = points.map_err(|_| ApiError::from_exceeded(TOO_SLOW))??;
        self.take_points_and_more(app, points)
    }

    /// Takes the points of the operation, and `more` points for each statistics that it asks for.
    fn take_points_and_more(self, app: &App, more: u64) -> Result<Self, ApiError> {
        let mut charge = self.charge;
        let points = u32::try_from(more.saturating_mul(self.statistics)).unwrap_or(u32::MAX);
        charge.cost = charge.cost.saturating_add(points);
        if let Some(limiter) = &app.limiter {
            charge = limiter.take_points(self.user_id, charge.cost)?;
        }
        Ok(Self { request: self.request.data(charge), charge, ..self })
    }

    /// Attaches the trace context of the request, which an import that the operation creates stores. Does
    /// nothing if there is none.
    pub fn with_trace(self, trace: RequestTrace) -> Self {
        match trace.0 {
            Some(context) => Self { request: self.request.data(context), ..self },
            None => self,
        }
    }
}

/// A GraphQL document that is stored under its hash once it was executed (automatic persisted queries).
struct UnpersistedDocument {
    documents: PersistedDocuments,
    hash: Hash,
    query: Arc<str>,
}

impl UnpersistedDocument {
    /// Stores the document under its hash, unless `response` is a request error.
    fn persist_unless_refused(&self, response: &GraphqlResponse) {
        if !is_request_error(response) {
            self.documents.store_document(self.hash, &self.query);
        }
    }
}

/// Prepares a request of a user: finds its document, checks the query limits and calculates the cost. Takes
/// no points and executes nothing.
///
/// # Errors
/// - [`ApiError::PersistedQueryNotFound`] if the request has only the hash of an unknown document.
/// - [`ApiError::BadUserInput`] if the document has a syntax error or the hash is not that of the document.
/// - [`ApiError::Limit`] if the document exceeds a limit.
pub(in crate::http) fn prepare_operation(app: &App, actor: Actor, body: Body) -> Result<Operation, ApiError> {
    let query = app.persisted.resolve_document(body.query, body.hash)?;
    let cached = app.documents.find_or_parse(&query)?;
    let document = &cached.document;
    let operations = || candidate_operations(document, body.operation_name.as_deref());
    let operation_type = choose_operation_type(operations());
    let charge =
        Charge { cost: highest_operation_cost(document, operations(), &body.variables), level: None };
    let statistics = count_statistics(document, operations(), &body.variables);
    let is_certainly_valid = operations().count() == 1
        && operations()
            .all(|operation| app.documents.is_certainly_valid(&cached, operation, &body.variables));
    let unpersisted = body.hash.map(|hash| UnpersistedDocument {
        documents: app.persisted.clone(),
        hash,
        query: query.as_str().into(),
    });
    let mut request = Request::new(query).variables(body.variables);
    request.operation_name = body.operation_name;
    request.set_parsed_query(ExecutableDocument::clone(document));
    let user_id = actor.user_id;
    let request = graphql::attach_actor_and_request_state(request, actor, &app.services.store);
    Ok(Operation {
        request,
        user_id,
        operation_type,
        charge,
        statistics,
        document: cached,
        is_certainly_valid,
        unpersisted,
        permits: Vec::new(),
    })
}

/// The operations of the document that have this name, or all of them without a name. A request is executed
/// only if there is exactly one.
fn candidate_operations<'d>(
    document: &'d ExecutableDocument,
    operation_name: Option<&str>,
) -> impl Iterator<Item = &'d OperationDefinition> {
    let candidates = document.operations.iter().filter(move |(name, _)| {
        operation_name.is_none_or(|requested| name.is_none_or(|name| name.as_str() == requested))
    });
    candidates.map(|(_, operation)| &operation.node)
}

/// The type of the operation to execute. If there are several, a mutation takes precedence over a
/// subscription, and a subscription over a query. If there is none, the type is query.
fn choose_operation_type<'d>(operations: impl Iterator<Item = &'d OperationDefinition>) -> OperationType {
    let mut types: Vec<_> = operations.map(|operation| operation.ty).collect();
    types.sort_by_key(|operation_type| match operation_type {
        OperationType::Mutation => 0,
        OperationType::Subscription => 1,
        OperationType::Query => 2,
    });
    types.first().copied().unwrap_or(OperationType::Query)
}

/// Executes a query or a mutation. It must not be called for a subscription.
///
/// The response comes within [`RESPONSE_TIMEOUT`], even if the database does not respond. A mutation goes on
/// after that, and also if the returned future is dropped.
pub(in crate::http) async fn execute_operation(
    app: &App,
    operation: Operation,
    request_id: &str,
) -> GraphqlResponse {
    let Operation {
        request, operation_type, charge, document, is_certainly_valid, unpersisted, permits, ..
    } = operation;
    let schema = if is_certainly_valid { &app.schemas.fast } else { &app.schemas.strict };
    let refused = |error: &ApiError| graphql_error_response(error, error.http_status(), request_id);
    let mut response = if operation_type == OperationType::Mutation {
        // A mutation that has begun runs to its end even if the client disconnects. If its future were
        // dropped before that, its database connection would stay inside a transaction.
        let schema = schema.clone();
        let mutation = async move {
            let response = schema.execute(request).await;
            drop(permits);
            response
        };
        let mutation = detach_on_drop(app.tracker.track_future(mutation.in_current_span()));
        match timeout(RESPONSE_TIMEOUT, mutation).await {
            Ok(Ok(response)) => response,
            Ok(Err(Panicked)) => return refused(&ApiError::Internal),
            Err(_) => return refused(&timeout_error()),
        }
    } else {
        let Ok(response) = timeout(RESPONSE_TIMEOUT, schema.execute(request)).await else {
            return refused(&timeout_error());
        };
        drop(permits);
        response
    };
    if !is_certainly_valid && !is_request_error(&response) {
        document.mark_as_valid();
    }
    if let Some(unpersisted) = unpersisted {
        unpersisted.persist_unless_refused(&response);
    }
    add_problems_to_errors(&mut response, request_id);
    response.extension("cost", charge.cost.into())
}

/// The error for an execution that took too long. A mutation goes on, and its outcome is not known yet.
fn timeout_error() -> ApiError {
    Error::Late.into()
}
/// Takes the points of an operation, and executes it as [`execute_as_stream`] does. If it asks for statistics, the
/// points are taken when the stream is read, because the events of the user may have to be counted first.
///
/// # Errors
/// [`ApiError::RateLimited`] if the user has too few points left. For statistics this is a response instead.
pub(in crate::http) fn take_points_and_execute_as_stream(
    app: &Arc<App>,
    operation: Operation,
    request_id: Arc<str>,
) -> Result<BoxStream<'static, GraphqlResponse>, ApiError> {
    if operation.statistics == 0 {
        return Ok(execute_as_stream(app, operation.take_points_and_more(app, 0)?, request_id));
    }
    let app = Arc::clone(app);
    let response = async move {
        match operation.take_points(&app).await {
            Ok(operation) => execute_operation(&app, operation, &request_id).await,
            Err(error) => graphql_error_response(&error, error.http_status(), &request_id),
        }
    };
    Ok(stream::once(response).boxed())
}

/// Executes any operation. A mutation begins at once in its own task, anything else when the stream is
/// polled. The first poll of a subscription returns the errors of its validation.
///
/// A subscription ends with the first response that has errors, and the data of that response is removed. The
/// client then resumes with the cursor that it has. The next page would have led it past the failed page.
pub(in crate::http) fn execute_as_stream(
    app: &Arc<App>,
    operation: Operation,
    request_id: Arc<str>,
) -> BoxStream<'static, GraphqlResponse> {
    if operation.operation_type != OperationType::Subscription {
        let (app, tracker) = (Arc::clone(app), app.tracker.clone());
        let is_mutation = operation.operation_type == OperationType::Mutation;
        let response = async move { execute_operation(&app, operation, &request_id).await };
        if !is_mutation {
            return stream::once(response).boxed();
        }
        // A stream is not polled while its client does not read. A mutation that has begun may hold locks
        // that other requests wait for, so it runs in its own task.
        let running = tracker.spawn(response.in_current_span());
        return stream::once(running).filter_map(async |response| response.ok()).boxed();
    }
    let responses = app.schemas.strict.execute_stream(operation.request);
    let begin = Some((responses, operation.unpersisted));
    stream::unfold(begin, move |state| {
        let request_id = Arc::clone(&request_id);
        async move {
            let (mut responses, unpersisted) = state?;
            let mut response = responses.next().await?;
            if let Some(unpersisted) = unpersisted {
                unpersisted.persist_unless_refused(&response);
            }
            add_problems_to_errors(&mut response, &request_id);
            if response.errors.is_empty() {
                return Some((response, Some((responses, None))));
            }
            response.data = Value::Null;
            Some((response, None))
        }
    })
    .boxed()
}
