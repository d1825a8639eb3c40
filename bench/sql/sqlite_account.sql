INSERT INTO account (user_id, issuer, subject, feed_head, feed_epoch) VALUES (?1, ?2, ?3, ?4, 1)
