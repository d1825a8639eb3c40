-- Imports a file in one transaction, as plain SQL would: copies it into a table, and inserts the rows that do not
-- exist yet. It leaves gaps in the feed positions where rows exist already, which idem does not.
BEGIN;
CREATE TABLE staging (n bigserial, id uuid, event_type_id uuid, "timestamp" bigint, notes text,
    source_type text, external_id text, properties text, content_hash bytea);
\copy staging (id, event_type_id, "timestamp", notes, source_type, external_id, properties, content_hash) FROM '{file}'
SELECT feed_head AS head FROM account WHERE user_id = '{user_id}' FOR UPDATE \gset
INSERT INTO event (user_id, id, event_type_id, "timestamp", is_all_day, notes, notes_search, source_type,
    external_id, properties, content_hash, version, import_version, change_seq, writer_run_start,
    import_job_id, created_at, updated_at)
SELECT '{user_id}', id, event_type_id, "timestamp", false, notes, lower(notes), source_type,
    external_id, properties, content_hash, 1, 1, :head + row_number() OVER (ORDER BY n), 1, '{import_id}',
    {first_ms}, {first_ms}
FROM staging ORDER BY n
ON CONFLICT DO NOTHING;
UPDATE account SET feed_head =
    (SELECT coalesce(max(change_seq), feed_head) FROM event WHERE user_id = '{user_id}')
WHERE user_id = '{user_id}';
DROP TABLE staging;
COMMIT;
