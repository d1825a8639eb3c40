//! Renames two columns of `import_job`: `rung_at` becomes `notified_at`, and `careful_until` becomes
//! `small_chunks_until`.
//!
//! The previous version knows only the old names, and may run on the same database during an upgrade. So the
//! old columns stay for one version. If one column of a pair is changed, a trigger copies the value to the
//! other one.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// The old and the new name of each column.
const RENAMED: [(&str, &str); 2] = [("rung_at", "notified_at"), ("careful_until", "small_chunks_until")];

const POSTGRES_FUNCTION: &str = "CREATE FUNCTION import_job_copy_renamed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF NEW.rung_at IS DISTINCT FROM OLD.rung_at AND NEW.notified_at IS NOT DISTINCT FROM OLD.notified_at \
     THEN NEW.notified_at := NEW.rung_at; ELSE NEW.rung_at := NEW.notified_at; END IF; \
     IF NEW.careful_until <> OLD.careful_until AND NEW.small_chunks_until = OLD.small_chunks_until \
     THEN NEW.small_chunks_until := NEW.careful_until; ELSE NEW.careful_until := NEW.small_chunks_until; END IF; \
     RETURN NEW; END $$";

const POSTGRES_TRIGGER: &str = "CREATE TRIGGER import_job_copy_renamed BEFORE UPDATE ON import_job FOR EACH ROW \
     WHEN (NEW.rung_at IS DISTINCT FROM OLD.rung_at OR NEW.notified_at IS DISTINCT FROM OLD.notified_at \
     OR NEW.careful_until <> OLD.careful_until OR NEW.small_chunks_until <> OLD.small_chunks_until) \
     EXECUTE FUNCTION import_job_copy_renamed()";

/// A trigger that copies a changed column to another. SQLite cannot assign to NEW, so a trigger for each
/// direction updates the row once more.
fn sqlite_trigger(from: &str, to: &str) -> String {
    format!(
        "CREATE TRIGGER import_job_copy_{from} AFTER UPDATE OF {from} ON import_job FOR EACH ROW \
         WHEN NEW.{from} IS NOT OLD.{from} AND NEW.{to} IS NOT NEW.{from} \
         BEGIN UPDATE import_job SET {to} = NEW.{from} WHERE user_id = NEW.user_id AND id = NEW.id; END"
    )
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let added = [
            ColumnDef::new("notified_at").big_integer().to_owned(),
            ColumnDef::new("small_chunks_until").big_integer().not_null().default(0).to_owned(),
        ];
        for column in added {
            let table = Table::alter().table("import_job").add_column(column).to_owned();
            manager.alter_table(table).await?;
        }
        let connection = manager.get_connection();
        let copy = "UPDATE import_job SET notified_at = rung_at, small_chunks_until = careful_until";
        connection.execute_unprepared(copy).await?;
        manager.drop_index(Index::drop().table("import_job").name("import_job_runnable").to_owned()).await?;
        let runnable = [("state", false), ("notified_at", false)];
        manager.create_index(super::index("import_job", "import_job_runnable", &runnable)).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            connection.execute_unprepared(POSTGRES_FUNCTION).await?;
            connection.execute_unprepared(POSTGRES_TRIGGER).await?;
            return Ok(());
        }
        for (old, new) in RENAMED {
            connection.execute_unprepared(&sqlite_trigger(old, new)).await?;
            connection.execute_unprepared(&sqlite_trigger(new, old)).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        if manager.get_database_backend() == DbBackend::Postgres {
            connection.execute_unprepared("DROP TRIGGER import_job_copy_renamed ON import_job").await?;
            connection.execute_unprepared("DROP FUNCTION import_job_copy_renamed()").await?;
        } else {
            for (old, new) in RENAMED {
                connection.execute_unprepared(&format!("DROP TRIGGER import_job_copy_{old}")).await?;
                connection.execute_unprepared(&format!("DROP TRIGGER import_job_copy_{new}")).await?;
            }
        }
        manager.drop_index(Index::drop().table("import_job").name("import_job_runnable").to_owned()).await?;
        let runnable = [("state", false), ("rung_at", false)];
        manager.create_index(super::index("import_job", "import_job_runnable", &runnable)).await?;
        for (_, new) in RENAMED {
            let table = Table::alter().table("import_job").drop_column(new).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}
