//! Adds `account.revision`, which every statement that writes anything of a user increments.
//!
//! An optimistic write compares it (compare-and-set) to learn whether the rows that it read are still
//! current.
//!
//! The previous version does not increment it, and may run on the same database during an upgrade. So a
//! trigger increments it if an UPDATE of the row leaves it unchanged. The next version removes the trigger.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const POSTGRES: [&str; 2] = [
    "CREATE FUNCTION account_increment_revision() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN NEW.revision := OLD.revision + 1; RETURN NEW; END $$",
    "CREATE TRIGGER account_increment_revision BEFORE UPDATE ON account FOR EACH ROW \
     WHEN (NEW.revision = OLD.revision) EXECUTE FUNCTION account_increment_revision()",
];

const SQLITE: [&str; 1] = ["CREATE TRIGGER account_increment_revision AFTER UPDATE ON account FOR EACH ROW \
     WHEN NEW.revision = OLD.revision \
     BEGIN UPDATE account SET revision = OLD.revision + 1 WHERE user_id = NEW.user_id; END"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = ColumnDef::new("revision").big_integer().not_null().default(0).to_owned();
        let table = Table::alter().table("account").add_column(column).to_owned();
        manager.alter_table(table).await?;
        let is_postgres = manager.get_database_backend() == DbBackend::Postgres;
        let statements: &[&str] = if is_postgres { &POSTGRES } else { &SQLITE };
        for statement in statements {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let is_postgres = manager.get_database_backend() == DbBackend::Postgres;
        let statements: &[&str] = if is_postgres {
            &[
                "DROP TRIGGER account_increment_revision ON account",
                "DROP FUNCTION account_increment_revision()",
            ]
        } else {
            &["DROP TRIGGER account_increment_revision"]
        };
        for statement in statements {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        manager.alter_table(Table::alter().table("account").drop_column("revision").to_owned()).await
    }
}
