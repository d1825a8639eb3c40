-- SQLite, any number of users. Each parameter is one JSON text: $1 the users, $2 rows of owner and id.
-- by_key: $3 rows of owner, id, source type and external id; a key is looked up only if no event has the id
-- beside it.
-- by_name: {name} rows of owner and name of a type.
-- SQLite does not reorder the tables of a CROSS JOIN, so the keys come first and each table is looked up.
WITH want AS MATERIALIZED (
  SELECT unhex(value ->> 0) AS user_id, unhex(value ->> 1) AS id FROM json_each($2)),
found AS MATERIALIZED (                                                                      -- by_key
  SELECT {event_read} FROM want w                                                            -- by_key
  CROSS JOIN event f ON f.user_id = w.user_id AND f.id = w.id),                              -- by_key
rest AS MATERIALIZED (                                                                       -- by_key
  SELECT w.user_id, w.id FROM want w                                                         -- by_key
  WHERE (w.user_id, w.id) NOT IN (SELECT user_id, id FROM found)),                           -- by_key
name AS MATERIALIZED (
  SELECT f.user_id, f.entity AS number, f.alias_id, f.id
  FROM want w                                                                                -- not by_key
  FROM rest w                                                                                -- by_key
  CROSS JOIN id_alias f ON f.user_id = w.user_id AND f.alias_id = w.id
  UNION ALL
  SELECT f.user_id, 3, f.id, f.id
  FROM want w                                                                                -- not by_key
  FROM rest w                                                                                -- by_key
  CROSS JOIN import_job f ON f.user_id = w.user_id AND f.id = w.id),
called AS MATERIALIZED (
  SELECT user_id, id FROM want                                                               -- not by_key
  SELECT user_id, id FROM rest                                                               -- by_key
  UNION ALL
  SELECT user_id, id FROM name)
SELECT 0 AS kind, f.user_id, NULL AS id, NULL AS other, f.feed_head AS number, f.revision{no_row}
FROM (SELECT unhex(value) AS id FROM json_each($1)) w CROSS JOIN account f ON f.user_id = w.id
UNION ALL
SELECT 1, n.user_id, n.id, n.alias_id, n.number, 0{no_row} FROM name n
UNION ALL                                                                                    -- by_key
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row} FROM found f                            -- by_key
UNION ALL
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row}
FROM called w                                                                                -- not by_key
FROM name w                                                                                  -- by_key
CROSS JOIN event f ON f.user_id = w.user_id AND f.id = w.id
UNION ALL                                                                                    -- by_key
SELECT 2, f.user_id, f.id, {import}, 0, 0{event_row}                                         -- by_key
FROM (SELECT unhex(value ->> 0) AS user_id, unhex(value ->> 1) AS id,                        -- by_key
  value ->> 2 AS source_type, value ->> 3 AS external_id FROM json_each($3)) w               -- by_key
CROSS JOIN event f ON f.user_id = w.user_id                                                  -- by_key
  AND f.source_type = w.source_type AND f.external_id = w.external_id                        -- by_key
WHERE (w.user_id, w.id) NOT IN (SELECT user_id, id FROM found)                               -- by_key
UNION ALL
SELECT 3, f.user_id, f.id, NULL, 0, 0{type_row}
FROM called w CROSS JOIN event_type f ON f.user_id = w.user_id AND f.id = w.id
UNION ALL                                                                                    -- by_name
SELECT 3, f.user_id, f.id, NULL, 0, 0{type_row}                                              -- by_name
FROM (SELECT unhex(value ->> 0) AS user_id, value ->> 1 AS text FROM json_each({name})) w    -- by_name
CROSS JOIN event_type f ON f.user_id = w.user_id AND f.name = w.text                         -- by_name
