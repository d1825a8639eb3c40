-- Reads the newest fifty events through the index on the timestamp.
\set user {user}
SELECT * FROM event
WHERE user_id = ('00000000-0000-5000-8000-' || lpad(:user::text, 12, '0'))::uuid AND "timestamp" IS NOT NULL
ORDER BY "timestamp" DESC, id DESC LIMIT 50;
