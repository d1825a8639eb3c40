-- Plan: one entry in the primary key and in each index of the table. The parameters are the columns of the table in their order.
INSERT INTO event_type (user_id, id, name, color, icon, content_hash, version, change_seq, writer_client_id,
  writer_run_start, writer_edit_id, created_at, updated_at, deleted_at, deleted_by)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
