-- Plan: one entry in the primary key and in each index of the table. The parameters are the columns of the table in their order.
INSERT INTO event (user_id, id, event_type_id, timestamp, end_date, is_all_day, time_zone, notes, notes_search,
  source_type, external_id, latitude, longitude, location_name, properties, content_hash, version,
  import_version, change_seq, writer_client_id, writer_run_start, writer_edit_id, import_job_id, created_at,
  updated_at, deleted_at, deleted_by, value, unit)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
  ?24, ?25, ?26, ?27, ?28, ?29)
