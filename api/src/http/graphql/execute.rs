//! What every transport does with a request: admit its document, say who asks, execute it.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::{ExecutableDocument, OperationDefinition, OperationType};
use async_graphql::{Request, Response as Answer, Value};
use domain::limits::ANSWER_MS_MAX;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use service::Actor;
use service::Error;
use service::detached::{Panicked, detached};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::Instrument;
use uuid::Uuid;

use super::answer::{is_refused, refusal};
use crate::error::{ApiError, complete};
use crate::http::App;
use crate::http::observe::Traced;
use crate::http::persisted::{Hash, Persisted};
use crate::http::variables::Body;
use crate::limiter::Charge;
use crate::limiter::cost::cost;
use crate::{graphql, query_limits};

/// How long an answer may take. Statements have bounds of their own, but there may be many in a request.
const ANSWER_MAX: Duration = Duration::from_millis(ANSWER_MS_MAX);

/// A request whose document has passed the gate.
pub(in crate::http) struct Operation {
    request: Request,
    user_id: Uuid,
    /// What is asked for.
    pub kind: OperationType,
    /// What it costs, and once it is paid how its user stands.
    pub charge: Charge,
    /// The document and its hash, to be kept once it was executed.
    keep: Option<Keep>,
    /// What it takes of bounded things, given back when it has ended: a mutation whose client is gone still
    /// takes it.
    room: Vec<OwnedSemaphorePermit>,
}

impl Operation {
    /// With the room that it takes.
    pub fn with_room(self, room: Vec<OwnedSemaphorePermit>) -> Self {
        Self { room, ..self }
    }

    /// Paid for by its user: the last that is asked before it is executed, for nothing is given back.
    ///
    /// # Errors
    /// When the user has not got so much for now.
    pub fn paid(self, app: &App) -> Result<Self, ApiError> {
        let charge = match &app.limiter {
            Some(limiter) => limiter.take(self.user_id, self.charge.cost)?,
            None => self.charge,
        };
        Ok(Self { request: self.request.data(charge), charge, ..self })
    }

    /// As part of a trace.
    pub fn within(self, trace: Traced) -> Self {
        match trace.0 {
            Some(context) => Self { request: self.request.data(context), ..self },
            None => self,
        }
    }
}

struct Keep {
    known: Persisted,
    hash: Hash,
    query: Arc<str>,
}

impl Keep {
    fn executed(&self, answer: &Answer) {
        if !is_refused(answer) {
            self.known.keep(self.hash, &self.query);
        }
    }
}

/// Lets a request through the gate, in the name of somebody.
pub(in crate::http) fn admit(app: &App, actor: Actor, body: Body) -> Result<Operation, ApiError> {
    let query = app.persisted.resolve(body.query, body.hash)?;
    let document = document(app, &query)?;
    let operations = || asked(&document, body.operation_name.as_deref());
    let kind = kind(operations());
    let charge = Charge { cost: cost(&document, operations(), &body.variables), level: None };
    let keep =
        body.hash.map(|hash| Keep { known: app.persisted.clone(), hash, query: query.as_str().into() });
    let mut request = Request::new(query).variables(body.variables);
    request.operation_name = body.operation_name;
    request.set_parsed_query(ExecutableDocument::clone(&document));
    let user_id = actor.user_id;
    let request = graphql::speak_for(request, actor, &app.services.store);
    Ok(Operation { request, user_id, kind, charge, keep, room: Vec::new() })
}

/// The parsed document, from the cache or through the gate.
fn document(app: &App, text: &str) -> Result<Arc<ExecutableDocument>, ApiError> {
    let cached = app.documents.lock().ok().and_then(|mut documents| documents.get(text).map(Arc::clone));
    if let Some(document) = cached {
        return Ok(document);
    }
    let document = Arc::new(query_limits::admit(text)?);
    if let Ok(mut documents) = app.documents.lock() {
        documents.put(text.to_owned(), Arc::clone(&document));
    }
    Ok(document)
}

/// The operations that may be meant: one, in all requests that are executed.
fn asked<'d>(
    document: &'d ExecutableDocument,
    operation_name: Option<&str>,
) -> impl Iterator<Item = &'d OperationDefinition> {
    let asked = document.operations.iter().filter(move |(name, _)| {
        operation_name.is_none_or(|asked| name.is_none_or(|name| name.as_str() == asked))
    });
    asked.map(|(_, operation)| &operation.node)
}

/// What is asked for; where it is not clear which operation, the weightiest of them.
fn kind<'d>(operations: impl Iterator<Item = &'d OperationDefinition>) -> OperationType {
    let mut kinds: Vec<_> = operations.map(|operation| operation.ty).collect();
    kinds.sort_by_key(|kind| match kind {
        OperationType::Mutation => 0,
        OperationType::Subscription => 1,
        OperationType::Query => 2,
    });
    kinds.first().copied().unwrap_or(OperationType::Query)
}

/// Executes a query or a mutation. It is answered in time, even if the database is not. A subscription is not meant.
pub(in crate::http) async fn answer(app: &App, operation: Operation, request_id: &str) -> Answer {
    let Operation { request, kind, charge, keep, room, .. } = operation;
    let refused = |error: &ApiError| refusal(error, error.status(), request_id);
    let mut answer = if kind == OperationType::Mutation {
        // Begun, it runs to its end even if the client hangs up: a future dropped in the middle would
        // leave its connection inside a transaction.
        let schema = app.schema.clone();
        let mutation = async move {
            let answer = schema.execute(request).await;
            drop(room);
            answer
        };
        let mutation = detached(app.tracker.track_future(mutation.in_current_span()));
        match timeout(ANSWER_MAX, mutation).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Panicked)) => return refused(&ApiError::Internal),
            Err(_) => return refused(&late()),
        }
    } else {
        let Ok(answer) = timeout(ANSWER_MAX, app.schema.execute(request)).await else {
            return refused(&late());
        };
        drop(room);
        answer
    };
    if let Some(keep) = keep {
        keep.executed(&answer);
    }
    complete(&mut answer, request_id);
    answer.extension("cost", charge.cost.into())
}

/// The answer did not come in time. What was begun goes on, and nobody knows yet what becomes of it.
fn late() -> ApiError {
    Error::Late.into()
}

/// Executes anything. A document that validation refuses is known at the first poll. A subscription ends
/// with the first answer that has errors, and nothing is told of that answer but them: its client comes back
/// with the cursor that it has, where the next page would have led it past this one.
pub(in crate::http) fn answers(
    app: &Arc<App>,
    operation: Operation,
    request_id: Arc<str>,
) -> BoxStream<'static, Answer> {
    if operation.kind != OperationType::Subscription {
        let (app, tracker) = (Arc::clone(app), app.tracker.clone());
        let is_mutation = operation.kind == OperationType::Mutation;
        let answer = async move { answer(&app, operation, &request_id).await };
        if !is_mutation {
            return stream::once(answer).boxed();
        }
        // Nobody polls a stream whose reader is slow, and what has begun may hold what others wait for.
        let running = tracker.spawn(answer.in_current_span());
        return stream::once(running).filter_map(async |answer| answer.ok()).boxed();
    }
    let answers = app.schema.execute_stream(operation.request);
    let begin = Some((answers, operation.keep));
    stream::unfold(begin, move |state| {
        let request_id = Arc::clone(&request_id);
        async move {
            let (mut answers, keep) = state?;
            let mut answer = answers.next().await?;
            if let Some(keep) = keep {
                keep.executed(&answer);
            }
            complete(&mut answer, &request_id);
            if answer.errors.is_empty() {
                return Some((answer, Some((answers, None))));
            }
            answer.data = Value::Null;
            Some((answer, None))
        }
    })
    .boxed()
}
