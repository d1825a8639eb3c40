-- Inserts a hundred events with one statement, as plain SQL would. Their notes and properties are two arrays.
\set user {user}
BEGIN;
UPDATE account SET feed_head = feed_head + 100
WHERE user_id = ('00000000-0000-5000-8000-' || lpad(:user::text, 12, '0'))::uuid
RETURNING feed_head - 100 AS head \gset
INSERT INTO event (user_id, id, event_type_id, "timestamp", is_all_day, time_zone, notes, notes_search,
    source_type, external_id, properties, content_hash, version, change_seq, writer_client_id, writer_run_start,
    created_at, updated_at)
SELECT ('00000000-0000-5000-8000-' || lpad(:user::text, 12, '0'))::uuid,
    ('019b7000-0000-7000-8000-' || lpad((:head::bigint + n)::text, 12, '0'))::uuid,
    :type_id, :first_ms::bigint + (:head::bigint + n) * 1000, false, 'Europe/Berlin', notes, lower(notes),
    'manual', {external_id}, properties, :hash, 1, :head::bigint + n, 'phone-1', 1,
    :first_ms::bigint + (:head::bigint + n) * 1000, :first_ms::bigint + (:head::bigint + n) * 1000
FROM unnest(:many_notes::text[], :many_properties::text[]) WITH ORDINALITY AS r(notes, properties, n)
ON CONFLICT DO NOTHING;
END;
