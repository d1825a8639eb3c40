-- Gives the new rows their places, one behind the other. Until then they stand at places below zero, for a
-- place must be unique.
WITH numbered AS (
    SELECT id, :head + row_number() OVER (ORDER BY change_seq DESC) AS place
    FROM event WHERE user_id = '{user_id}' AND change_seq < 0)
UPDATE event e SET change_seq = numbered.place
FROM numbered WHERE e.user_id = '{user_id}' AND e.id = numbered.id;
