-- Inserts one event, as plain SQL would: takes the next feed position, which locks the user's account row,
-- and inserts the row with that position.
\set user {user}
BEGIN;
UPDATE account SET feed_head = feed_head + 1
WHERE user_id = ('00000000-0000-5000-8000-' || lpad(:user::text, 12, '0'))::uuid
RETURNING feed_head \gset
INSERT INTO event (user_id, id, event_type_id, "timestamp", is_all_day, time_zone, notes, notes_search,
    source_type, external_id, properties, content_hash, version, change_seq, writer_client_id, writer_run_start,
    created_at, updated_at)
VALUES (('00000000-0000-5000-8000-' || lpad(:user::text, 12, '0'))::uuid,
    ('019b7000-0000-7000-8000-' || lpad(:feed_head::text, 12, '0'))::uuid,
    :type_id, :first_ms::bigint + :feed_head::bigint * 1000, false, 'Europe/Berlin', :notes, lower(:notes),
    'manual', {external_id}, :properties, :hash, 1, :feed_head, 'phone-1', 1,
    :first_ms::bigint + :feed_head::bigint * 1000, :first_ms::bigint + :feed_head::bigint * 1000)
ON CONFLICT DO NOTHING;
END;
