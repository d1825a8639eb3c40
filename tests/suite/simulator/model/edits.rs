//! Updates, deletions and restores, and what speaks against them.

use serde_json::{Value, json};

use super::super::reading;
use super::{Call, Kind, Model, Row, Said, one, refused, rejected, said, text};

impl Model {
    fn unknown(call: &Call<'_>, id: &str, pointer: &str) -> Said {
        match call.rejected.get(id) {
            Some(retry) => {
                rejected("DEPENDENCY_REJECTED", &one(pointer, "DEPENDENCY_REJECTED"), retry.clone())
            }
            None => refused(&one(pointer, "NOT_FOUND")),
        }
    }

    /// Whether this edit, or a newer one of the client that wrote last, was applied before. One that was made on the
    /// current version, and one that follows another in its call, is new.
    fn is_stale(row: &Row, call: &Call<'_>, id: &str, edit: &Value) -> bool {
        let (Some(sent), Some(client)) = (edit["editId"].as_str(), call.client) else {
            return false;
        };
        if let Some(applied) = call.applied.get(id) {
            return applied.iter().any(|edit| edit == sent);
        }
        let is_current = edit["expectedVersion"].as_i64() == Some(row.version);
        let wrote = Some(client) == row.writer.as_deref();
        !is_current && wrote && row.edit_id.as_deref().is_some_and(|greatest| sent <= greatest)
    }

    fn is_conflict(row: &Row, call: &Call<'_>, edit: &Value) -> bool {
        let Some(expected) = edit["expectedVersion"].as_i64() else {
            return false;
        };
        let wrote = call.client.is_some() && call.client == row.writer.as_deref();
        let own_chain = wrote && expected < row.version && expected >= row.run_start - 1;
        expected != row.version && !own_chain
    }

    fn conflict(id: &str) -> Said {
        let problem =
            json!({ "code": "VERSION_CONFLICT", "retryable": false, "retryAfterMs": null, "errors": [] });
        Said { problem, ..said("CONFLICT", id) }
    }

    /// Nothing to do; a newer edit of the client that wrote last is remembered all the same.
    fn unchanged(&mut self, call: &mut Call<'_>, id: &str, edit: &Value) -> Said {
        let row = self.rows.get_mut(id).unwrap();
        let wrote = call.client.is_some() && call.client == row.writer.as_deref();
        if let Some(edit_id) = text(edit, "editId")
            && wrote
            && row.edit_id.as_ref().is_none_or(|last| *last < edit_id)
        {
            call.apply(id, Some(edit_id.clone()));
            row.edit_id = Some(edit_id);
        }
        said("UNCHANGED", id)
    }

    fn change(&mut self, call: &mut Call<'_>, id: &str, edit: &Value, content: Option<Value>) {
        let row = self.rows.get_mut(id).unwrap();
        row.version += 1;
        let wrote = call.client.is_some() && call.client == row.writer.as_deref();
        if !wrote {
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

    pub(super) fn update(&mut self, call: &mut Call<'_>, kind: Kind, edit: &Value) -> Said {
        let sent_id = text(edit, "id").unwrap();
        let Some(id) = self.find(kind, &sent_id) else {
            return Self::unknown(call, &sent_id, "/id");
        };
        let row = &self.rows[&id];
        let Some(old) = &row.content else {
            return said("DELETED", &id);
        };
        if Self::is_stale(row, call, &id, edit) {
            return said("UNCHANGED", &id);
        }
        let mut wanted = reading::patched(old, &edit["patch"]);
        let type_id = text(&edit["patch"], "eventTypeId");
        if let Some(type_id) = &type_id {
            wanted["eventTypeId"] = json!(self.find(Kind::Type, type_id).unwrap_or_else(|| type_id.clone()));
        }
        if wanted == *old {
            return self.unchanged(call, &id, edit);
        }
        if Self::is_conflict(row, call, edit) {
            return Self::conflict(&id);
        }
        let mut errors = reading::end_before_start(&wanted, &edit["patch"]);
        if let Some(said) = type_id.and_then(|id| self.misses_type(call, &id, "/patch/eventTypeId")) {
            if said.problem["code"] == "DEPENDENCY_REJECTED" {
                return said;
            }
            errors.extend(one("/patch/eventTypeId", "EVENT_TYPE_NOT_FOUND"));
        }
        if kind == Kind::Type && self.named(&wanted["name"]).is_some_and(|owner| owner != id) {
            errors.extend(one("/patch/name", "NAME_TAKEN"));
        }
        if !errors.is_empty() {
            return refused(&errors);
        }
        self.change(call, &id, edit, Some(wanted));
        said("UPDATED", &id)
    }

    pub(super) fn delete(&mut self, call: &mut Call<'_>, kind: Kind, edit: &Value) -> Said {
        let sent_id = text(edit, "id").unwrap();
        let Some(id) = self.find(kind, &sent_id) else {
            return Self::unknown(call, &sent_id, "/id");
        };
        let row = &self.rows[&id];
        if Self::is_stale(row, call, &id, edit) {
            return said("UNCHANGED", &id);
        }
        if row.content.is_none() {
            return self.unchanged(call, &id, edit);
        }
        if Self::is_conflict(row, call, edit) {
            return Self::conflict(&id);
        }
        let is_of = |row: &Row| row.content.as_ref().is_some_and(|content| content["eventTypeId"] == *id);
        if self.rows.values().any(is_of) {
            return rejected("EVENT_TYPE_IN_USE", &[], (json!(false), Value::Null));
        }
        self.change(call, &id, edit, None);
        said("DELETED", &id)
    }

    pub(super) fn restore(&mut self, call: &mut Call<'_>, restore: &Value) -> Said {
        let input = &restore["event"];
        let sent_id = text(input, "id").unwrap();
        let Some(id) = self.find(Kind::Event, &sent_id) else {
            return Self::unknown(call, &sent_id, "/event/id");
        };
        let row = &self.rows[&id];
        if Self::is_stale(row, call, &id, restore) {
            return said("UNCHANGED", &id);
        }
        let wanted = self.read(input);
        match &row.content {
            Some(content) if *content == wanted => return self.unchanged(call, &id, restore),
            Some(_) => return Self::conflict(&id),
            None if Self::is_conflict(row, call, restore) => return Self::conflict(&id),
            None => {}
        }
        let type_id = text(input, "eventTypeId").unwrap();
        if let Some(said) = self.misses_type(call, &type_id, "/event/eventTypeId") {
            return said;
        }
        self.change(call, &id, restore, Some(wanted));
        said("UPDATED", &id)
    }
}
