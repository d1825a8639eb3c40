-- PostgreSQL, many users: $1 the users, $2 owners and $3 ids.
-- by_key: $4 owners, $5 ids, $6 source types, $7 external ids; a key is looked up only if no event has the id
-- beside it.
-- by_name: {owner} owners, {name} names of types.
WITH want AS MATERIALIZED (SELECT w.user_id, w.id FROM unnest($2::uuid[], $3::uuid[]) AS w(user_id, id)),
found AS MATERIALIZED (                                                                      -- by_key
  SELECT f.* FROM want w CROSS JOIN LATERAL (                                                -- by_key
    SELECT {event_read} FROM event f                                                         -- by_key
    WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f), -- by_key
rest AS MATERIALIZED (                                                                       -- by_key
  SELECT w.user_id, w.id FROM want w                                                         -- by_key
  WHERE (w.user_id, w.id) NOT IN (SELECT user_id, id FROM found)),                           -- by_key
name AS MATERIALIZED (
  SELECT f.user_id, f.entity AS number, f.alias_id, f.id
  FROM want w                                                                                -- not by_key
  FROM rest w                                                                                -- by_key
  CROSS JOIN LATERAL (
    SELECT f.user_id, f.entity, f.alias_id, f.id FROM id_alias f
    WHERE f.user_id = w.user_id AND f.alias_id >= w.id AND f.alias_id <= w.id ORDER BY f.alias_id LIMIT 1) f
  UNION ALL
  SELECT f.user_id, 3, f.id, f.id
  FROM want w                                                                                -- not by_key
  FROM rest w                                                                                -- by_key
  CROSS JOIN LATERAL (
    SELECT f.user_id, f.id FROM import_job f
    WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f),
called AS MATERIALIZED (
  SELECT user_id, id FROM want                                                               -- not by_key
  SELECT user_id, id FROM rest                                                               -- by_key
  UNION ALL
  SELECT user_id, id FROM name)
SELECT 0 AS kind, a.user_id, NULL::uuid AS id, NULL::uuid AS other, a.feed_head AS number, a.revision{no_row}
FROM unnest($1::uuid[]) AS w(id) CROSS JOIN LATERAL (
  SELECT f.user_id, f.feed_head, f.revision FROM account f
  WHERE f.user_id >= w.id AND f.user_id <= w.id ORDER BY f.user_id LIMIT 1) a
UNION ALL
SELECT 1, n.user_id, n.id, n.alias_id, n.number, 0{no_row} FROM name n
UNION ALL                                                                                    -- by_key
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row} FROM found f                            -- by_key
UNION ALL
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row}
FROM called w                                                                                -- not by_key
FROM name w                                                                                  -- by_key
CROSS JOIN LATERAL (
  SELECT {event_read} FROM event f
  WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
UNION ALL                                                                                    -- by_key
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row}                                         -- by_key
FROM unnest($4::uuid[], $5::uuid[], $6::text[], $7::text[])                                  -- by_key
  AS w(user_id, id, source_type, external_id)                                                -- by_key
CROSS JOIN LATERAL (                                                                         -- by_key
  SELECT {event_read} FROM event f                                                           -- by_key
  WHERE f.user_id = w.user_id AND f.source_type = w.source_type                              -- by_key
  AND f.external_id >= w.external_id AND f.external_id <= w.external_id                      -- by_key
  ORDER BY f.external_id LIMIT 1) f                                                          -- by_key
WHERE (w.user_id, w.id) NOT IN (SELECT user_id, id FROM found)                               -- by_key
UNION ALL
SELECT 3, f.user_id, f.id, NULL::uuid, 0, 0{type_row}
FROM called w CROSS JOIN LATERAL (
  SELECT {type_read} FROM event_type f
  WHERE f.user_id = w.user_id AND f.id >= w.id AND f.id <= w.id ORDER BY f.id LIMIT 1) f
UNION ALL                                                                                    -- by_name
SELECT 3, f.user_id, f.id, NULL::uuid, 0, 0{type_row}                                        -- by_name
FROM unnest({owner}::uuid[], {name}::text[]) AS w(user_id, text)                             -- by_name
CROSS JOIN LATERAL (                                                                         -- by_name
  SELECT {type_read} FROM event_type f                                                       -- by_name
  WHERE f.user_id = w.user_id AND f.name >= w.text AND f.name <= w.text                      -- by_name
  ORDER BY f.name LIMIT 1) f                                                                 -- by_name
