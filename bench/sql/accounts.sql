-- Users u1, u2, … whose ids a script can tell by their number.
INSERT INTO account (user_id, issuer, subject, feed_head, feed_epoch)
SELECT ('00000000-0000-5000-8000-' || lpad(n::text, 12, '0'))::uuid, '{issuer}', 'u' || n, 0, 1
FROM generate_series(1, {users}) n;
