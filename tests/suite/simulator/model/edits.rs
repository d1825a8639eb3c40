//! Applies updates, deletions and restores to the model.

use serde_json::{Value, json};

use super::super::reading;
use super::{Call, EntityKind, ExpectedResult, Model, Row, expected, invalid, one_error, rejected, text};

impl Model {
    /// Returns the result of an edit of an id that is not stored.
    fn unknown(call: &Call<'_>, id: &str, pointer: &str) -> ExpectedResult {
        match call.rejected.get(id) {
            Some(retry) => {
                rejected("DEPENDENCY_REJECTED", &one_error(pointer, "DEPENDENCY_REJECTED"), retry.clone())
            }
            None => invalid(&one_error(pointer, "NOT_FOUND")),
        }
    }

    /// Whether this edit, or a newer one of the client that wrote last, was applied before. An edit that
    /// expects the current version is new, and so is one that follows another edit of the row in its call.
    fn is_stale(row: &Row, call: &Call<'_>, id: &str, edit: &Value) -> bool {
        let (Some(sent), Some(client)) = (edit["editId"].as_str(), call.client) else {
            return false;
        };
        if let Some(applied) = call.applied.get(id) {
            return applied.iter().any(|edit| edit == sent);
        }
        let is_current = edit["expectedVersion"].as_i64() == Some(row.version);
        let is_last_writer = Some(client) == row.writer.as_deref();
        !is_current && is_last_writer && row.edit_id.as_deref().is_some_and(|greatest| sent <= greatest)
    }

    fn is_conflict(row: &Row, call: &Call<'_>, edit: &Value) -> bool {
        let Some(expected) = edit["expectedVersion"].as_i64() else {
            return false;
        };
        let is_last_writer = call.client.is_some() && call.client == row.writer.as_deref();
        let is_own_run = is_last_writer && expected < row.version && expected >= row.run_start - 1;
        expected != row.version && !is_own_run
    }

    fn conflict(id: &str) -> ExpectedResult {
        let problem =
            json!({ "code": "VERSION_CONFLICT", "retryable": false, "retryAfterMs": null, "errors": [] });
        ExpectedResult { problem, ..expected("CONFLICT", id) }
    }

    /// Returns UNCHANGED. A newer edit id of the client that wrote last is recorded nevertheless.
    fn unchanged(&mut self, call: &mut Call<'_>, id: &str, edit: &Value) -> ExpectedResult {
        let row = self.rows.get_mut(id).unwrap();
        let is_last_writer = call.client.is_some() && call.client == row.writer.as_deref();
        if let Some(edit_id) = text(edit, "editId")
            && is_last_writer
            && row.edit_id.as_ref().is_none_or(|last_edit_id| *last_edit_id < edit_id)
        {
            call.apply(id, Some(edit_id.clone()));
            row.edit_id = Some(edit_id);
        }
        expected("UNCHANGED", id)
    }

    /// Stores new content, or a tombstone, as the next version.
    fn change(&mut self, call: &mut Call<'_>, id: &str, edit: &Value, content: Option<Value>) {
        let row = self.rows.get_mut(id).unwrap();
        row.version += 1;
        let is_last_writer = call.client.is_some() && call.client == row.writer.as_deref();
        if !is_last_writer {
            row.run_start = row.version;
            row.edit_id = None;
            row.writer = call.client.map(str::to_owned);
        }
        if let (Some(edit_id), true) = (text(edit, "editId"), call.client.is_some()) {
            row.edit_id = row.edit_id.take().max(Some(edit_id.clone()));
            call.apply(id, Some(edit_id));
        }
        call.apply(id, None);
        row.updated_at = call.now_ms;
        row.content = content;
        call.changed.insert(id.to_owned());
    }

    pub(super) fn update(&mut self, call: &mut Call<'_>, kind: EntityKind, edit: &Value) -> ExpectedResult {
        let sent_id = text(edit, "id").unwrap();
        let Some(id) = self.find(kind, &sent_id) else {
            return Self::unknown(call, &sent_id, "/id");
        };
        let row = &self.rows[&id];
        let Some(old) = &row.content else {
            return expected("DELETED", &id);
        };
        if Self::is_stale(row, call, &id, edit) {
            return expected("UNCHANGED", &id);
        }
        let mut new_content = reading::patched(old, &edit["patch"]);
        let type_id = text(&edit["patch"], "eventTypeId");
        if let Some(type_id) = &type_id {
            new_content["eventTypeId"] =
                json!(self.find(EntityKind::Type, type_id).unwrap_or_else(|| type_id.clone()));
        }
        if new_content == *old {
            return self.unchanged(call, &id, edit);
        }
        if Self::is_conflict(row, call, edit) {
            return Self::conflict(&id);
        }
        let mut errors = reading::end_before_start(&new_content, &edit["patch"]);
        if let Some(expected) = type_id.and_then(|id| self.missing_type(call, &id, "/patch/eventTypeId")) {
            if expected.problem["code"] == "DEPENDENCY_REJECTED" {
                return expected;
            }
            errors.extend(one_error("/patch/eventTypeId", "EVENT_TYPE_NOT_FOUND"));
        }
        if kind == EntityKind::Type
            && self.type_with_name(&new_content["name"]).is_some_and(|owner| owner != id)
        {
            errors.extend(one_error("/patch/name", "NAME_TAKEN"));
        }
        if !errors.is_empty() {
            return invalid(&errors);
        }
        self.change(call, &id, edit, Some(new_content));
        expected("UPDATED", &id)
    }

    pub(super) fn delete(&mut self, call: &mut Call<'_>, kind: EntityKind, edit: &Value) -> ExpectedResult {
        let sent_id = text(edit, "id").unwrap();
        let Some(id) = self.find(kind, &sent_id) else {
            return Self::unknown(call, &sent_id, "/id");
        };
        let row = &self.rows[&id];
        if Self::is_stale(row, call, &id, edit) {
            return expected("UNCHANGED", &id);
        }
        if row.content.is_none() {
            return self.unchanged(call, &id, edit);
        }
        if Self::is_conflict(row, call, edit) {
            return Self::conflict(&id);
        }
        let uses_type = |row: &Row| row.content.as_ref().is_some_and(|content| content["eventTypeId"] == *id);
        if self.rows.values().any(uses_type) {
            return rejected("EVENT_TYPE_IN_USE", &[], (json!(false), Value::Null));
        }
        self.change(call, &id, edit, None);
        expected("DELETED", &id)
    }

    pub(super) fn restore(&mut self, call: &mut Call<'_>, restore: &Value) -> ExpectedResult {
        let input = &restore["event"];
        let sent_id = text(input, "id").unwrap();
        let Some(id) = self.find(EntityKind::Event, &sent_id) else {
            return Self::unknown(call, &sent_id, "/event/id");
        };
        let row = &self.rows[&id];
        if Self::is_stale(row, call, &id, restore) {
            return expected("UNCHANGED", &id);
        }
        let new_content = self.content_of(input);
        match &row.content {
            Some(content) if *content == new_content => return self.unchanged(call, &id, restore),
            Some(_) => return Self::conflict(&id),
            None if Self::is_conflict(row, call, restore) => return Self::conflict(&id),
            None => {}
        }
        let type_id = text(input, "eventTypeId").unwrap();
        if let Some(expected) = self.missing_type(call, &type_id, "/event/eventTypeId") {
            return expected;
        }
        self.change(call, &id, restore, Some(new_content));
        expected("UPDATED", &id)
    }
}
