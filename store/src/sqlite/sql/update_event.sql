-- Plan: one lookup in the primary key. The parameters are the columns of the table in their order.
UPDATE event SET event_type_id = ?3, timestamp = ?4, end_date = ?5, is_all_day = ?6, time_zone = ?7, notes = ?8,
  notes_search = ?9, source_type = ?10, external_id = ?11, latitude = ?12, longitude = ?13, location_name = ?14,
  properties = ?15, content_hash = ?16, version = ?17, import_version = ?18, change_seq = ?19,
  writer_client_id = ?20, writer_run_start = ?21, writer_edit_id = ?22, import_job_id = ?23, created_at = ?24,
  updated_at = ?25, deleted_at = ?26, deleted_by = ?27, value = ?28, unit = ?29
WHERE user_id = ?1 AND id = ?2
