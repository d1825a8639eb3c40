INSERT INTO event (user_id, id, event_type_id, "timestamp", is_all_day, notes, notes_search, source_type,
    external_id, properties, content_hash, version, import_version, change_seq, writer_run_start,
    import_job_id, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, false, ?5, ?6, ?7, ?8, ?9, ?10, 1, 1, ?11, 1, ?12, ?4, ?4)
ON CONFLICT DO NOTHING
