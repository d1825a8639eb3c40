-- PostgreSQL, one user: $1 the user, $2 how many events there are, $3 the ids of all types that the creates name,
-- $4 the name that each of them must have, or an empty text if any will do.
-- {items} is the table of the events. Their positions start at 1, after the feed head.
WITH item AS MATERIALIZED ({items}),
seen AS MATERIALIZED (SELECT f.user_id, f.feed_head, f.revision FROM account f WHERE f.user_id = $1),
type AS MATERIALIZED (
  SELECT f.* FROM unnest($3::uuid[]) AS w(id) CROSS JOIN LATERAL (
    SELECT {type_read} FROM event_type f
    WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f),
found AS MATERIALIZED (
  SELECT f.* FROM item w CROSS JOIN LATERAL (
    SELECT {event_read}, {body} FROM event f
    WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f),
rest AS MATERIALIZED (
  SELECT w.id, w.source_type, w.external_id FROM item w WHERE w.id NOT IN (SELECT id FROM found)),
-- One row for each id that is used for something else, and for each external key that is known.
other AS MATERIALIZED (
  SELECT FROM rest w CROSS JOIN LATERAL (
    SELECT FROM id_alias f
    WHERE f.user_id = $1 AND f.alias_id >= w.id AND f.alias_id <= w.id ORDER BY f.alias_id LIMIT 1) f
  UNION ALL
  SELECT FROM rest w CROSS JOIN LATERAL (
    SELECT FROM import_job f WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
  UNION ALL
  SELECT FROM rest w CROSS JOIN LATERAL (
    SELECT FROM event_type f WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
  UNION ALL
  SELECT FROM rest w CROSS JOIN LATERAL (
    SELECT FROM event f
    WHERE f.user_id = $1 AND f.source_type = w.source_type
    AND f.external_id >= w.external_id AND f.external_id <= w.external_id ORDER BY f.external_id LIMIT 1) f),
held AS MATERIALIZED (
  SELECT s.user_id, s.feed_head FROM seen s CROSS JOIN LATERAL (
    SELECT FROM account f
    WHERE f.user_id = $1 AND {is_unchanged} FOR NO KEY UPDATE OF f SKIP LOCKED) f
  WHERE NOT EXISTS (SELECT FROM found) AND NOT EXISTS (SELECT FROM other)
  AND NOT EXISTS (
    SELECT FROM unnest($3::uuid[], $4::text[]) AS w(id, name)
    WHERE NOT EXISTS (
      SELECT FROM type t WHERE t.id = w.id AND (t.name = w.name OR w.name = '' AND t.name IS NOT NULL)))),
moved AS (
  UPDATE account a SET feed_head = h.feed_head + $2, revision = a.revision + 1
  FROM held h WHERE a.user_id = $1 RETURNING h.user_id, h.feed_head),
stored AS (INSERT INTO event ({columns}) SELECT {cells} FROM item w CROSS JOIN moved m RETURNING 1)
-- If another number of rows is stored than the feed head moves by, this divides by zero, and nothing is stored.
SELECT 0 AS kind, s.user_id, NULL::uuid AS id, NULL::uuid AS other, s.feed_head AS number, s.revision{no_row}, NULL::record
FROM seen s
UNION ALL
SELECT 4, m.user_id, NULL, NULL, 1 / ((SELECT count(*) FROM stored) = $2)::integer, 0{no_row}, NULL::record FROM moved m
UNION ALL
SELECT 5, $1, NULL, NULL, 0, 0{no_row}, NULL::record FROM other
UNION ALL
SELECT 2, f.user_id, f.id, f.import_job_id, 0, 0{event_row}, f.body FROM found f
UNION ALL
SELECT 3, f.user_id, f.id, NULL, 0, 0{type_row}, NULL::record FROM type f
