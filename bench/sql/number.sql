-- Gives the new rows consecutive feed positions. Until then their positions are negative, because a position
-- must be unique.
WITH numbered AS (
    SELECT id, :head + row_number() OVER (ORDER BY change_seq DESC) AS position
    FROM event WHERE user_id = '{user_id}' AND change_seq < 0)
UPDATE event e SET change_seq = numbered.position
FROM numbered WHERE e.user_id = '{user_id}' AND e.id = numbered.id;
