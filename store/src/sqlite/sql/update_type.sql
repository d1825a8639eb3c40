-- Plan: one lookup in the primary key. The parameters are the columns of the table in their order.
UPDATE event_type SET name = ?3, color = ?4, icon = ?5, content_hash = ?6, version = ?7, change_seq = ?8,
  writer_client_id = ?9, writer_run_start = ?10, writer_edit_id = ?11, created_at = ?12, updated_at = ?13,
  deleted_at = ?14, deleted_by = ?15
WHERE user_id = ?1 AND id = ?2
