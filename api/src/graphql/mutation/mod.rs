//! Everything that can be written: one file a mutation, merged here.

mod cancel_import;
mod create_event;
mod create_event_type;
mod create_events;
mod create_import;
mod import_events;

use async_graphql::MergedObject;

/// The root of all writing. Sending any of these again is safe.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(
    cancel_import::CancelImport,
    create_event::CreateEvent,
    create_events::CreateEvents,
    create_event_type::CreateEventType,
    create_import::CreateImport,
    import_events::ImportEvents,
);
