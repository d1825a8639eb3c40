-- PostgreSQL, one event: its columns are the parameters, in the order of the table. It returns one row, or none
-- if the user has no account.
WITH seen AS MATERIALIZED (SELECT f.feed_head, f.revision FROM account f WHERE f.user_id = {user_id}),
type AS MATERIALIZED (
  SELECT {type_read} FROM event_type f
  WHERE f.user_id = {user_id} AND f.id >= {event_type_id} AND f.id <= {event_type_id} ORDER BY f.id LIMIT 1),
found AS MATERIALIZED (
  SELECT {event_read}, {body} FROM event f
  WHERE f.user_id = {user_id} AND f.id >= {id} AND f.id <= {id} ORDER BY f.id LIMIT 1),
-- Whether the id is used for something else, or the external key is known. No row if the event was found.
other AS MATERIALIZED (
  SELECT coalesce(
    (SELECT true FROM id_alias f
     WHERE f.user_id = {user_id} AND f.alias_id >= {id} AND f.alias_id <= {id} ORDER BY f.alias_id LIMIT 1),
    (SELECT true FROM import_job f
     WHERE f.user_id = {user_id} AND f.id >= {id} AND f.id <= {id} ORDER BY f.id LIMIT 1),
    (SELECT true FROM event_type f
     WHERE f.user_id = {user_id} AND f.id >= {id} AND f.id <= {id} ORDER BY f.id LIMIT 1),
    (SELECT true FROM event f
     WHERE f.user_id = {user_id} AND f.source_type = {source_type}
     AND f.external_id >= {external_id} AND f.external_id <= {external_id} ORDER BY f.external_id LIMIT 1),
    false) AS is_known
  WHERE NOT EXISTS (SELECT FROM found)),
held AS MATERIALIZED (
  SELECT s.feed_head FROM seen s CROSS JOIN LATERAL (
    SELECT FROM account f
    WHERE f.user_id = {user_id} AND {is_unchanged} FOR NO KEY UPDATE OF f SKIP LOCKED) f
  WHERE NOT (SELECT o.is_known FROM other o) AND (SELECT t.name FROM type t) IS NOT NULL),
moved AS (
  UPDATE account a SET feed_head = h.feed_head + 1, revision = a.revision + 1
  FROM held h WHERE a.user_id = {user_id} RETURNING h.feed_head),
stored AS (INSERT INTO event ({columns}) SELECT {cells} FROM moved m RETURNING 1)
-- If the row is not stored although the feed head moves, this divides by zero, and nothing is stored.
SELECT s.feed_head, s.revision, (SELECT 1 / (SELECT count(*) FROM stored)::integer FROM moved) AS is_stored,
  (SELECT o.is_known FROM other o), f.import_job_id{type_row}{event_row}, f.body
FROM seen s LEFT JOIN type t ON true LEFT JOIN found f ON true
