//! Writes a preview as JSON, for the web page and for scripts.

use domain::draft::{IdOrigin, NewEvent, TypeRef};
use domain::instant;
use domain::problem::FieldProblem;
use domain::row::Location;
use serde_json::{Value, json};

use super::{Preview, PreviewRecord, ProblemKind};

impl Preview {
    /// Returns the whole preview as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let csv = self.csv.as_ref();
        json!({
            "format": self.format.map(|format| format.name()),
            "packing": self.packing.map(|packing| packing.name()),
            "encoding": csv.map(|csv| csv.encoding),
            "delimiter": csv.map(|csv| csv.delimiter),
            "linesBefore": csv.map(|csv| csv.lines_before),
            "header": csv.map(|csv| &csv.header),
            "rows": self.records.iter().map(PreviewRecord::to_json).collect::<Vec<_>>(),
            "rowsRead": self.read,
            "rowsRejected": self.rejected,
            "problemKinds": self.kinds.iter().map(ProblemKind::to_json).collect::<Vec<_>>(),
            "otherProblems": self.other_problems,
            "problems": self.problems.iter().map(problem_to_json).collect::<Vec<_>>(),
            "isCut": self.is_cut,
        })
    }
}

impl PreviewRecord {
    fn to_json(&self) -> Value {
        let problems = self.problems.iter().map(|cell| {
            let mut object = problem_to_json(&cell.problem);
            object["column"] = cell.column.into();
            object
        });
        json!({
            "record": self.record,
            "line": self.line,
            "cells": self.cells,
            "excerpt": self.excerpt,
            "event": self.event.as_ref().map(event_to_json),
            "problems": problems.collect::<Vec<_>>(),
        })
    }
}

impl ProblemKind {
    fn to_json(&self) -> Value {
        let mut object = problem_to_json(&self.problem);
        object["rows"] = self.records.into();
        object["firstRecord"] = self.record.into();
        object["firstLine"] = self.line.into();
        object
    }
}

fn problem_to_json(problem: &FieldProblem) -> Value {
    json!({ "pointer": problem.pointer, "code": problem.code.name(), "detail": problem.detail })
}

/// An event as JSON, as an import would store it. Its id is null unless it was sent, because an id that is
/// made depends on the user.
fn event_to_json(event: &NewEvent) -> Value {
    let body = &event.body;
    let (type_id, type_name) = match &event.type_ref {
        TypeRef::Id(id) => (Some(id.to_string()), None),
        TypeRef::Name { name, .. } => (None, Some(name)),
    };
    let location = |place: &Location| {
        let Location { latitude, longitude, name } = place;
        json!({ "latitude": latitude, "longitude": longitude, "name": name })
    };
    json!({
        "id": (event.origin == IdOrigin::Sent).then(|| event.id.to_string()),
        "eventTypeId": type_id,
        "eventType": type_name,
        "timestamp": instant::format(body.timestamp),
        "endDate": body.end_date.map(instant::format),
        "isAllDay": body.is_all_day,
        "timeZone": body.time_zone,
        "notes": body.notes,
        "sourceType": event.source_type,
        "externalId": event.external_id,
        "location": body.location.as_ref().map(location),
        "properties": serde_json::from_str::<Value>(&body.properties).unwrap_or_default(),
    })
}
