INSERT INTO event (user_id, id, event_type_id, "timestamp", is_all_day, time_zone, notes, notes_search,
    source_type, external_id, properties, content_hash, version, change_seq, writer_client_id, writer_run_start,
    created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, false, 'Europe/Berlin', ?5, ?6, 'manual', ?7, ?8, ?9, 1, ?10, 'phone-1', 1, ?4, ?4)
ON CONFLICT DO NOTHING
