//! The statements of both databases that read the events of a query.

use sea_orm::{DbBackend, Statement, Value};

use super::Request;
use crate::dialect;
use crate::event::{Filter, smallest_id_at};
use domain::case_folding;
use domain::stats::cells::TimestampRanges;

/// A statement while it is being built.
pub(super) struct StatementBuilder {
    backend: DbBackend,
    values: Vec<Value>,
}

impl StatementBuilder {
    /// A statement whose parameter 1 is the user.
    pub(super) fn new(backend: DbBackend, request: &Request) -> Self {
        Self { backend, values: vec![request.user_id.into()] }
    }

    /// Adds a parameter, and returns its name.
    pub(super) fn parameter(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// The table `w` of the ids of the types, for a FROM clause.
    pub(super) fn types(&mut self, request: &Request) -> String {
        match &request.event_type_ids {
            Some(ids) => {
                self.values.push(dialect::ids_parameter(self.backend, ids));
                dialect::sql_id_table(self.backend, self.values.len())
            }
            None => {
                "(SELECT f.id FROM event_type f WHERE f.user_id = $1 AND f.name IS NOT NULL) w".to_owned()
            }
        }
    }

    /// The condition that the event `e` has one of the types and meets the filter.
    ///
    /// It names all types even if the filter has none. The index has the type before the time, and neither
    /// database looks times up in it without the type.
    pub(super) fn condition(&mut self, request: &Request) -> String {
        let types = self.types(request);
        let is_one_of = match self.backend {
            DbBackend::Postgres => format!("= ANY (ARRAY(SELECT w.id FROM {types}))"),
            _ => format!("IN (SELECT w.id FROM {types})"),
        };
        self.condition_with_type(request, &is_one_of)
    }

    /// The condition that the event `e` has the type `id`, an SQL expression, and meets the filter.
    pub(super) fn condition_of_type(&mut self, request: &Request, id: &str) -> String {
        self.condition_with_type(request, &format!("= {id}"))
    }

    fn condition_with_type(&mut self, request: &Request, is_type: &str) -> String {
        let Request { ranges, filter, .. } = request;
        let all = ranges.all();
        let mut sql = format!(
            "e.user_id = $1 AND e.event_type_id {is_type} AND e.timestamp >= {} AND e.timestamp < {}",
            self.parameter(all.start),
            self.parameter(all.end)
        );
        let TimestampRanges { timed, all_day } = ranges;
        if timed != all_day {
            sql += &format!(
                " AND CASE WHEN e.is_all_day THEN e.timestamp >= {} AND e.timestamp < {} \
                 ELSE e.timestamp >= {} AND e.timestamp < {} END",
                self.parameter(all_day.start),
                self.parameter(all_day.end),
                self.parameter(timed.start),
                self.parameter(timed.end)
            );
        }
        if let Some(from) = filter.id_from {
            sql += &format!(" AND e.id >= {}", self.parameter(smallest_id_at(from)));
        }
        if let Some(to) = filter.id_to {
            sql += &format!(" AND e.id < {}", self.parameter(smallest_id_at(to)));
        }
        if let Some(sources) = &filter.source_types {
            sql += &match self.backend {
                DbBackend::Postgres => {
                    format!(" AND e.source_type = ANY({}::text[])", self.parameter(sources.clone()))
                }
                _ => format!(
                    " AND e.source_type IN (SELECT value FROM json_each({}))",
                    self.parameter(serde_json::json!(sources).to_string())
                ),
            };
        }
        if let Some(import) = filter.import_job_id {
            sql += &format!(" AND e.import_job_id = {}", self.parameter(import));
        }
        if let Some(search) = &filter.search {
            let position = dialect::sql_position_function(self.backend);
            sql += &format!(
                " AND {position}(e.notes_search, {}) > 0",
                self.parameter(case_folding::fold(search))
            );
        }
        sql
    }

    /// The statement that reads the first and the last timestamp of the events, both NULL if there are none.
    ///
    /// Plan: for each type one lookup at either end of its part of the index. If the filter may pass many events over,
    /// all of them are read once.
    pub(super) fn sql_bounds(&mut self, request: &Request) -> String {
        let Filter { id_from, id_to, source_types, import_job_id, search, .. } = &request.filter;
        let passes_over = id_from.is_some()
            || id_to.is_some()
            || source_types.is_some()
            || import_job_id.is_some()
            || search.is_some();
        if passes_over {
            let condition = self.condition(request);
            return format!(
                "SELECT min(e.timestamp) AS first, max(e.timestamp) AS last FROM event e WHERE {condition}"
            );
        }
        let types = self.types(request);
        let events =
            format!("SELECT e.timestamp FROM event e WHERE {}", self.condition_of_type(request, "w.id"));
        format!(
            "SELECT min(b.first) AS first, max(b.last) AS last FROM (\
             SELECT ({events} ORDER BY e.timestamp LIMIT 1) AS first, \
             ({events} ORDER BY e.timestamp DESC LIMIT 1) AS last FROM {types}) b"
        )
    }

    /// The columns that adding up one event needs, in the order in which they are read.
    pub(super) fn columns(request: &Request) -> &'static str {
        if request.query.measures.is_empty() && request.reads_columns {
            "e.event_type_id, e.timestamp, e.end_date, e.is_all_day, e.source_type"
        } else if request.reads_columns {
            "e.event_type_id, e.timestamp, e.end_date, e.is_all_day, e.source_type, e.value, e.unit"
        } else {
            "e.event_type_id, e.timestamp, e.end_date, e.is_all_day, e.source_type, e.properties"
        }
    }

    /// Ends the statement.
    pub(super) fn into_statement(self, sql: String) -> Statement {
        Statement::from_sql_and_values(self.backend, sql, self.values)
    }
}
