-- Position 1 of the feed of each user is their event type.
INSERT INTO event_type (user_id, id, name, content_hash, version, change_seq, writer_run_start, created_at, updated_at)
VALUES (?1, ?2, 'Run', zeroblob(32), 1, 1, 1, ?3, ?3)
