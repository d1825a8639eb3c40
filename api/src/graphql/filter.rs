//! The filter of events, which pages and statistics share.

use domain::limits;
use domain::problem::Code;
use service::queries::event;

use super::scalar::{DateTime, Id};
use crate::error::ApiError;

/// Selects events. An event must match every field that is set. `from` and `idFrom` are inclusive, `to` and
/// `idTo` are exclusive.
#[derive(Debug, async_graphql::InputObject)]
pub struct EventFilter {
    /// Events of one of these event types. 1 to 500 ids or aliases; an unknown id matches nothing.
    event_type_ids: Option<Vec<Id>>,
    /// Events whose `timestamp` is at or after this instant.
    from: Option<DateTime>,
    /// Events whose `timestamp` is before this instant.
    to: Option<DateTime>,
    /// Events whose id was made at or after this instant, by the time inside the UUIDv7. That is not
    /// `timestamp`, nor when the server stored the event.
    id_from: Option<DateTime>,
    /// Events whose id was made before this instant, by the time inside the UUIDv7.
    id_to: Option<DateTime>,
    /// Events from one of these sources. 1 to 500 values of `sourceType`.
    source_types: Option<Vec<String>>,
    /// Events that the import with this id created. An unknown id matches nothing.
    import_job_id: Option<Id>,
    /// Events whose `notes` contain this text, compared without regard to case. 2 to 100 characters.
    search: Option<String>,
}

impl EventFilter {
    /// Checks a filter, and finds the UUIDs in it. Without a filter all events match.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] if a value is wrong, with its pointer in the argument `filter` or in the field of this
    /// name. [`ApiError::Limit`] if a list has too many values.
    pub(super) fn parse_filter(this: Option<Self>) -> Result<event::Filter, ApiError> {
        let Some(filter) = this else {
            return Ok(event::Filter::default());
        };
        let search_fits = |text: &String| limits::SEARCH_CHARS.contains(&text.chars().count());
        if filter.search.as_ref().is_some_and(|text| !search_fits(text) || text.contains('\0')) {
            let detail = "must have 2 to 100 characters, none of them NUL";
            return Err(ApiError::invalid("/filter/search", Code::InvalidValue, detail));
        }
        let event_type_ids = check_filter_list("/filter/eventTypeIds", filter.event_type_ids)?;
        let source_types = check_filter_list("/filter/sourceTypes", filter.source_types)?;
        Ok(event::Filter {
            event_type_ids: event_type_ids.map(|ids| ids.iter().filter_map(Id::to_uuid).collect()),
            from: DateTime::into_epoch_ms("/filter/from", filter.from)?,
            to: DateTime::into_epoch_ms("/filter/to", filter.to)?,
            id_from: DateTime::into_epoch_ms("/filter/idFrom", filter.id_from)?,
            id_to: DateTime::into_epoch_ms("/filter/idTo", filter.id_to)?,
            source_types: source_types.map(|all| all.into_iter().filter(|s| !s.contains('\0')).collect()),
            // No import has the nil UUID, so a value that is not a UUID matches no event.
            import_job_id: filter.import_job_id.map(|id| id.to_uuid().unwrap_or_default()),
            search: filter.search,
        })
    }
}

/// Checks the length of the list at `pointer` in a filter, and returns the list unchanged. An absent list matches
/// everything.
///
/// # Errors
/// [`ApiError::Invalid`] if the list is empty, because it could not match anything.
/// [`ApiError::Limit`] if it has more than [`limits::FILTER_VALUES_MAX`] values.
pub(super) fn check_filter_list<T>(
    pointer: &'static str,
    values: Option<Vec<T>>,
) -> Result<Option<Vec<T>>, ApiError> {
    let max = limits::FILTER_VALUES_MAX;
    match values {
        Some(values) if values.is_empty() => {
            let detail = "must have at least 1 value: leave it out to match all";
            Err(ApiError::invalid(pointer, Code::InvalidValue, detail))
        }
        Some(values) if values.len() > max => {
            let detail =
                format!("a list in a filter has at most {max} values: split it over several requests");
            Err(ApiError::Limit { name: "filter", max: max as u64, detail })
        }
        values => Ok(values),
    }
}
