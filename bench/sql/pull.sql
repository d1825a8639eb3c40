-- Reads five hundred entries of the feed after a random position.
\set user {user}
\set after random(0, {after_max})
SELECT * FROM event
WHERE user_id = ('00000000-0000-5000-8000-' || lpad(:user::text, 12, '0'))::uuid AND change_seq > :after
ORDER BY change_seq LIMIT 500;
