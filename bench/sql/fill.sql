-- Fills the table with event n of every user, then event n + 1 of every user, as they would have come in. The
-- indexes are created after that, which is faster.
CREATE TEMP TABLE dropped_index AS
SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'event' AND indexname <> 'event_pkey';
SELECT format('DROP INDEX %I', indexname) FROM dropped_index \gexec
INSERT INTO event (user_id, id, event_type_id, "timestamp", is_all_day, time_zone, notes, notes_search,
    source_type, external_id, properties, content_hash, version, change_seq, writer_client_id, writer_run_start,
    created_at, updated_at)
SELECT ('00000000-0000-5000-8000-' || lpad((1 + m % {users})::text, 12, '0'))::uuid,
    ('019b7000-0000-7000-8000-' || lpad((1 + m / {users})::text, 12, '0'))::uuid,
    '{type_id}', {first_ms} + (1 + m / {users}) * 1000, false, 'Europe/Berlin', '{notes}', lower('{notes}'),
    'manual', {external_id}, '{properties}', sha256(m::text::bytea), 1, 2 + m / {users}, 'phone-1', 1,
    {first_ms} + (1 + m / {users}) * 1000, {first_ms} + (1 + m / {users}) * 1000
FROM generate_series(0, {users} * {events_per_user}::bigint - 1) m;
UPDATE account SET feed_head = feed_head + {events_per_user};
SELECT indexdef FROM dropped_index \gexec
