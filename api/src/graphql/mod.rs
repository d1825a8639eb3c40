//! The GraphQL schema of the API, and access to the values that its resolvers share.
//!
//! Resolvers are thin: they take the actor from the context, convert the arguments, call one use case of
//! `service`, and convert its result. They contain no business rules.

mod filter;
pub mod input;
pub mod json_writer;
mod loader;
mod mutation;
mod query;
mod response_size;
pub mod scalar;
mod subscription;
pub mod types;
mod wake;

use std::sync::Arc;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, Request, SDLExportOptions, ValidationMode};
use domain::limits::ImportLimits;
use domain::trace_context::TraceContext;
use service::Actor;
use service::Payloads;
use service::Store;
use service::apply_mutations::MutationAnswer;
use service::notifier::Notifier;
use service::write::group::GroupWriter;

use crate::limiter::Charge;
use loader::TypeLoader;
use mutation::Mutation;
use query::Query;
use response_size::ResponseSize;
use subscription::Subscription;
use types::event::Node;
use types::result::WriteResult;
use wake::WakeUps;

/// The executable schema.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// What all resolvers use: the database, the payload storage, notifications and limits.
#[derive(Debug, Clone)]
pub struct Services {
    /// The store, through which the database is read and written.
    pub store: Store,
    /// The storage of import payloads.
    pub payloads: Payloads,
    /// Notifies workers of imports that can run, and feed readers of changes.
    pub notifier: Arc<dyn Notifier>,
    /// How many imports, records and bytes each user may import.
    pub import_limits: ImportLimits,
}

/// Builds the executable schema, with its own write groups. Without `hints`, error messages do not suggest
/// names from the schema.
///
/// Must be called within a tokio runtime, because it starts the task that wakes feed readers.
#[must_use]
pub fn build_schema(services: Services, hints: bool) -> Schema {
    build_schemas(services, hints).strict
}

/// The executable schema in two modes of validation. They share everything else.
pub(crate) struct Schemas {
    /// Applies all rules of validation.
    pub(crate) strict: Schema,
    /// Skips most rules ([`ValidationMode::Fast`]). For requests that are certainly valid.
    pub(crate) fast: Schema,
}

/// Builds the executable schema as [`build_schema`] does, in both modes of validation.
///
/// Must be called within a tokio runtime.
#[must_use]
pub(crate) fn build_schemas(services: Services, hints: bool) -> Schemas {
    let wake_ups = WakeUps::new(services.notifier.as_ref());
    let writer = GroupWriter::<MutationAnswer>::new(services.store.clone(), Arc::clone(&services.notifier));
    let build = |mode| {
        let services = services.clone();
        let builder = schema_builder()
            .validation_mode(mode)
            .data(wake_ups.clone())
            .data(writer.clone())
            .data(services.store)
            .data(services.payloads)
            .data(services.notifier)
            .data(services.import_limits);
        if hints { builder.finish() } else { builder.disable_suggestions().finish() }
    };
    Schemas { strict: build(ValidationMode::Strict), fast: build(ValidationMode::Fast) }
}

/// The schema in SDL, as `schema.graphql` contains it.
#[must_use]
pub fn sdl() -> String {
    schema_builder().finish().sdl_with_options(SDLExportOptions::new().include_specified_by())
}

/// Builds the schema for a test that ends each request before its resolvers run, by an extension.
#[cfg(test)]
pub(crate) fn build_schema_for_validation_tests(
    extension: impl async_graphql::extensions::ExtensionFactory,
) -> Schema {
    schema_builder().extension(extension).finish()
}

fn schema_builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build_with_ignore_name_conflicts(Query, Mutation::default(), Subscription, ["ID"])
        .register_output_type::<Node>()
        .register_output_type::<WriteResult>()
        .with_sorted_fields()
        .with_sorted_enums()
}

/// Executes a query or mutation of `actor` in process, and returns the response as JSON text. It has no query
/// limits and no rate limit, which belong to HTTP.
///
/// Resolvers use `store` instead of the store of the schema, so that the request can have a clock of its own.
/// Single writes are stored by the write groups of the schema.
pub async fn execute_to_json(schema: &Schema, actor: Actor, store: &Store, request: Request) -> String {
    json_writer::response::to_json_text(
        &schema.execute(attach_actor_and_request_state(request.data(store.clone()), actor, store)).await,
    )
}

/// Attaches the user who makes a request to it, with a new loader of event types and a new response size,
/// which belong to one request.
pub(crate) fn attach_actor_and_request_state(request: Request, actor: Actor, store: &Store) -> Request {
    let type_loader = TypeLoader { store: store.clone(), user_id: actor.user_id };
    request.data(DataLoader::new(type_loader, tokio::spawn)).data(ResponseSize::default()).data(actor)
}

fn context_actor<'c>(context: &Context<'c>) -> &'c Actor {
    context.data_unchecked::<Actor>()
}

fn context_notifier<'c>(context: &Context<'c>) -> &'c dyn Notifier {
    context.data_unchecked::<Arc<dyn Notifier>>().as_ref()
}

fn context_import_limits<'c>(context: &Context<'c>) -> &'c ImportLimits {
    context.data_unchecked::<ImportLimits>()
}

/// The trace context of the request for distributed tracing, if it has one.
fn context_trace(context: &Context<'_>) -> Option<TraceContext> {
    context.data_opt::<TraceContext>().copied()
}

/// The rate limit points that the request cost its user, and the level of the bucket. The cost is zero for a
/// request that is executed in process, without HTTP or a WebSocket.
fn context_charge(context: &Context<'_>) -> Charge {
    context.data_opt::<Charge>().copied().unwrap_or_default()
}

fn context_response_size<'c>(context: &Context<'c>) -> &'c ResponseSize {
    context.data_unchecked::<ResponseSize>()
}

fn context_group_writer<'c>(context: &Context<'c>) -> &'c GroupWriter<MutationAnswer> {
    context.data_unchecked::<GroupWriter<MutationAnswer>>()
}

fn context_store<'c>(context: &Context<'c>) -> &'c Store {
    context.data_unchecked::<Store>()
}
