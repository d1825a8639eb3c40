-- Creates the users u1, u2, … with ids that a script can compute from the number.
INSERT INTO account (user_id, issuer, subject, feed_head, feed_epoch)
SELECT ('00000000-0000-5000-8000-' || lpad(n::text, 12, '0'))::uuid, '{issuer}', 'u' || n, 0, 1
FROM generate_series(1, {users}) n;
