-- PostgreSQL, one user: $1 the user, $2 ids.
-- by_key: $3 ids, $4 source types, $5 external ids; a key is looked up only if no event has the id beside it.
-- by_name: {name} names of types.
WITH want AS MATERIALIZED (SELECT w.id FROM unnest($2::uuid[]) AS w(id)),
found AS MATERIALIZED (                                                               -- by_key
  SELECT f.* FROM want w CROSS JOIN LATERAL (                                         -- by_key
    SELECT {event_read} FROM event f                                                  -- by_key
    WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f), -- by_key
rest AS MATERIALIZED (                                                                -- by_key
  SELECT w.id FROM want w WHERE w.id NOT IN (SELECT id FROM found)),                  -- by_key
name AS MATERIALIZED (
  SELECT f.entity AS number, f.alias_id, f.id
  FROM want w                                                                         -- not by_key
  FROM rest w                                                                         -- by_key
  CROSS JOIN LATERAL (
    SELECT f.entity, f.alias_id, f.id FROM id_alias f
    WHERE f.user_id = $1 AND f.alias_id >= w.id AND f.alias_id <= w.id ORDER BY f.alias_id LIMIT 1) f
  UNION ALL
  SELECT 3, f.id, f.id
  FROM want w                                                                         -- not by_key
  FROM rest w                                                                         -- by_key
  CROSS JOIN LATERAL (
    SELECT f.id FROM import_job f
    WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f),
called AS MATERIALIZED (
  SELECT id FROM want                                                                 -- not by_key
  SELECT id FROM rest                                                                 -- by_key
  UNION ALL
  SELECT id FROM name)
SELECT 0 AS kind, f.user_id, NULL::uuid AS id, NULL::uuid AS other, f.feed_head AS number, f.revision{no_row}
FROM account f WHERE f.user_id = $1
UNION ALL
SELECT 1, $1::uuid, n.id, n.alias_id, n.number, 0{no_row} FROM name n
UNION ALL                                                                             -- by_key
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row} FROM found f                     -- by_key
UNION ALL
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row}
FROM called w                                                                         -- not by_key
FROM name w                                                                           -- by_key
CROSS JOIN LATERAL (
  SELECT {event_read} FROM event f
  WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
UNION ALL                                                                             -- by_key
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row}                                  -- by_key
FROM unnest($3::uuid[], $4::text[], $5::text[]) AS w(id, source_type, external_id)    -- by_key
CROSS JOIN LATERAL (                                                                  -- by_key
  SELECT {event_read} FROM event f                                                    -- by_key
  WHERE f.user_id = $1 AND f.source_type = w.source_type                              -- by_key
  AND f.external_id >= w.external_id AND f.external_id <= w.external_id               -- by_key
  ORDER BY f.external_id LIMIT 1) f                                                   -- by_key
WHERE w.id NOT IN (SELECT id FROM found)                                              -- by_key
UNION ALL
SELECT 3, f.user_id, f.id, NULL::uuid, 0, 0{type_row}
FROM called w CROSS JOIN LATERAL (
  SELECT {type_read} FROM event_type f
  WHERE f.user_id = $1 AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
UNION ALL                                                                             -- by_name
SELECT 3, f.user_id, f.id, NULL::uuid, 0, 0{type_row}                                 -- by_name
FROM unnest({name}::text[]) AS w(text)                                                -- by_name
CROSS JOIN LATERAL (                                                                  -- by_name
  SELECT {type_read} FROM event_type f                                                -- by_name
  WHERE f.user_id = $1 AND f.name >= w.text AND f.name <= w.text                      -- by_name
  ORDER BY f.name LIMIT 1) f                                                          -- by_name
