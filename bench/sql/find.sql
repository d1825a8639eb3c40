-- Reads one event by its primary key, which is the least that a duplicate costs.
\set user {user}
\set number random(1, {events_per_user})
SELECT * FROM event
WHERE user_id = ('00000000-0000-5000-8000-' || lpad(:user::text, 12, '0'))::uuid
    AND id = ('019b7000-0000-7000-8000-' || lpad(:number::text, 12, '0'))::uuid;
