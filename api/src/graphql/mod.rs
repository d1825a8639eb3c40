//! The schema: what the API can be asked. Resolvers are thin: actor, convert, one command, convert.

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
use async_graphql::{Context, Request, SDLExportOptions};
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
use wake::Wakes;

/// The schema, ready to execute.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// What resolvers work with.
#[derive(Debug, Clone)]
pub struct Services {
    /// The database.
    pub store: Store,
    /// The payloads of imports.
    pub payloads: Payloads,
    /// Wakes the workers.
    pub notifier: Arc<dyn Notifier>,
    /// What the imports of one user may take.
    pub import_limits: ImportLimits,
}

/// Builds the schema. Without `hints`, errors suggest nothing.
#[must_use]
pub fn schema(services: Services, hints: bool) -> Schema {
    let wakes = Wakes::new(services.notifier.as_ref());
    let writer = GroupWriter::<MutationAnswer>::new(services.store.clone(), Arc::clone(&services.notifier));
    let builder = definition()
        .data(wakes)
        .data(writer)
        .data(services.store)
        .data(services.payloads)
        .data(services.notifier)
        .data(services.import_limits);
    if hints { builder.finish() } else { builder.disable_suggestions().finish() }
}

/// The schema as text, for `schema.graphql`.
#[must_use]
pub fn sdl() -> String {
    definition().finish().sdl_with_options(SDLExportOptions::new().include_specified_by())
}

fn definition() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build_with_ignore_name_conflicts(Query, Mutation::default(), Subscription, ["ID"])
        .register_output_type::<Node>()
        .register_output_type::<WriteResult>()
        .with_sorted_fields()
        .with_sorted_enums()
}

/// Executes a request for somebody in process and over this store, whose clock may be its own: for whoever
/// needs the schema without HTTP. The answer is its JSON text.
pub async fn execute(schema: &Schema, actor: Actor, store: &Store, request: Request) -> String {
    json_writer::answer::text(&schema.execute(speak_for(request.data(store.clone()), actor, store)).await)
}

/// Lets a request speak for somebody.
pub(crate) fn speak_for(request: Request, actor: Actor, store: &Store) -> Request {
    let types = TypeLoader { store: store.clone(), user_id: actor.user_id };
    request.data(DataLoader::new(types, tokio::spawn)).data(ResponseSize::default()).data(actor)
}

fn actor<'c>(context: &Context<'c>) -> &'c Actor {
    context.data_unchecked::<Actor>()
}

fn notifier<'c>(context: &Context<'c>) -> &'c dyn Notifier {
    context.data_unchecked::<Arc<dyn Notifier>>().as_ref()
}

fn import_limits<'c>(context: &Context<'c>) -> &'c ImportLimits {
    context.data_unchecked::<ImportLimits>()
}

/// The request, if it belongs to a trace.
fn trace_context(context: &Context<'_>) -> Option<TraceContext> {
    context.data_opt::<TraceContext>().copied()
}

/// What the request costs; nothing where it came without HTTP.
fn charge(context: &Context<'_>) -> Charge {
    context.data_opt::<Charge>().copied().unwrap_or_default()
}

fn size_of_response<'c>(context: &Context<'c>) -> &'c ResponseSize {
    context.data_unchecked::<ResponseSize>()
}

fn writer<'c>(context: &Context<'c>) -> &'c GroupWriter<MutationAnswer> {
    context.data_unchecked::<GroupWriter<MutationAnswer>>()
}

fn store<'c>(context: &Context<'c>) -> &'c Store {
    context.data_unchecked::<Store>()
}
