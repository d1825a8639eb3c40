-- PostgreSQL, many users: $1 the users, $2 how many events each of them has, $3 and $4 the owners and the ids of
-- all types that the creates name. {items} is the table of the events. Their positions start at 1 for each user, after the feed head.
WITH item AS MATERIALIZED ({items}),
seen AS MATERIALIZED (
  SELECT f.user_id, f.feed_head, f.revision, w.events FROM unnest($1::uuid[], $2::bigint[]) AS w(user_id, events)
  CROSS JOIN LATERAL (
    SELECT f.user_id, f.feed_head, f.revision FROM account f
    WHERE f.user_id >= w.user_id AND f.user_id <= w.user_id ORDER BY f.user_id LIMIT 1) f),
type AS MATERIALIZED (
  SELECT f.* FROM unnest($3::uuid[], $4::uuid[]) AS w(user_id, id) CROSS JOIN LATERAL (
    SELECT {type_read} FROM event_type f
    WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f),
found AS MATERIALIZED (
  SELECT f.* FROM item w CROSS JOIN LATERAL (
    SELECT {event_read}, {body} FROM event f
    WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f),
rest AS MATERIALIZED (
  SELECT w.user_id, w.id, w.source_type, w.external_id FROM item w
  WHERE (w.user_id, w.id) NOT IN (SELECT user_id, id FROM found)),
-- One row for each id that is used for something else, and for each external key that is known.
other AS MATERIALIZED (
  SELECT w.user_id FROM rest w CROSS JOIN LATERAL (
    SELECT FROM id_alias f
    WHERE f.user_id = w.user_id AND f.alias_id >= w.id AND f.alias_id <= w.id ORDER BY f.alias_id LIMIT 1) f
  UNION ALL
  SELECT w.user_id FROM rest w CROSS JOIN LATERAL (
    SELECT FROM import_job f
    WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
  UNION ALL
  SELECT w.user_id FROM rest w CROSS JOIN LATERAL (
    SELECT FROM event_type f
    WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
  UNION ALL
  SELECT w.user_id FROM rest w CROSS JOIN LATERAL (
    SELECT FROM event f
    WHERE f.user_id = w.user_id AND f.source_type = w.source_type
    AND f.external_id >= w.external_id AND f.external_id <= w.external_id ORDER BY f.external_id LIMIT 1) f),
held AS MATERIALIZED (
  SELECT s.user_id, s.feed_head, s.events FROM seen s CROSS JOIN LATERAL (
    SELECT FROM account f
    WHERE f.user_id = s.user_id AND {is_unchanged} FOR NO KEY UPDATE OF f SKIP LOCKED) f
  WHERE s.user_id NOT IN (SELECT user_id FROM found) AND s.user_id NOT IN (SELECT user_id FROM other)
  AND s.user_id NOT IN (
    SELECT w.user_id FROM unnest($3::uuid[], $4::uuid[]) AS w(user_id, id)
    WHERE (w.user_id, w.id) NOT IN (SELECT t.user_id, t.id FROM type t WHERE t.name IS NOT NULL))),
moved AS (
  UPDATE account a SET feed_head = h.feed_head + h.events, revision = a.revision + 1
  FROM held h WHERE a.user_id >= h.user_id AND a.user_id <= h.user_id RETURNING h.user_id, h.feed_head, h.events),
stored AS (INSERT INTO event ({columns}) SELECT {cells} FROM item w JOIN moved m ON m.user_id = w.user_id
  RETURNING 1)
-- If another number of rows is stored than the feed heads move by, this divides by zero, and nothing is stored.
SELECT 0 AS kind, s.user_id, NULL::uuid AS id, NULL::uuid AS other, s.feed_head AS number, s.revision{no_row}, NULL::record
FROM seen s
UNION ALL
SELECT 4, m.user_id, NULL, NULL,
  1 / ((SELECT count(*) FROM stored) = (SELECT sum(n.events) FROM moved n))::integer, 0{no_row}, NULL::record
FROM moved m
UNION ALL
SELECT 5, o.user_id, NULL, NULL, 0, 0{no_row}, NULL::record FROM other o
UNION ALL
SELECT 2, f.user_id, f.id, f.import_job_id, 0, 0{event_row}, f.body FROM found f
UNION ALL
SELECT 3, f.user_id, f.id, NULL, 0, 0{type_row}, NULL::record FROM type f
