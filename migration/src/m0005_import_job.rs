//! Creates `import_job`: the imports, each with its state, checkpoint and lease in one row.

use sea_orm_migration::prelude::*;

use crate::index;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let count = |name: &'static str| ColumnDef::new(name).big_integer().not_null().default(0).to_owned();
        manager
            .create_table(
                Table::create()
                    .table("import_job")
                    .col(ColumnDef::new("user_id").uuid().not_null())
                    .col(ColumnDef::new("id").uuid().not_null())
                    .col(ColumnDef::new("state").text().not_null())
                    .col(ColumnDef::new("format").text().not_null())
                    .col(ColumnDef::new("name").text())
                    .col(ColumnDef::new("options").text().not_null())
                    .col(ColumnDef::new("bytes_total").big_integer().not_null())
                    .col(count("bytes_received"))
                    .col(ColumnDef::new("sha256").blob())
                    .col(count("next_record"))
                    .col(count("next_byte"))
                    .col(count("bytes_processed"))
                    .col(ColumnDef::new("records_total").big_integer())
                    .col(count("count_inserted"))
                    .col(count("count_duplicates"))
                    .col(count("count_differing"))
                    .col(count("count_deleted"))
                    .col(count("count_rejected"))
                    .col(ColumnDef::new("attempts").integer().not_null().default(0))
                    .col(ColumnDef::new("crash_count").integer().not_null().default(0))
                    .col(ColumnDef::new("not_before").big_integer())
                    .col(count("lease_epoch"))
                    .col(ColumnDef::new("lease_owner").text())
                    .col(ColumnDef::new("lease_until").big_integer())
                    .col(ColumnDef::new("rung_at").big_integer())
                    .col(ColumnDef::new("problem").text())
                    .col(ColumnDef::new("trace_context").text())
                    .col(ColumnDef::new("upload_expires_at").big_integer().not_null())
                    .col(ColumnDef::new("created_at").big_integer().not_null())
                    .col(ColumnDef::new("started_at").big_integer())
                    .col(ColumnDef::new("finished_at").big_integer())
                    .primary_key(Index::create().name("import_job_pkey").col("user_id").col("id"))
                    .to_owned(),
            )
            .await?;
        let newest = [("user_id", false), ("created_at", true), ("id", true)];
        manager.create_index(index("import_job", "import_job_newest", &newest)).await?;
        // These two indexes do not begin with the user. A notification contains only the id of an import, and
        // the sweeper looks for runnable imports of all users.
        manager.create_index(index("import_job", "import_job_id", &[("id", false)])).await?;
        let runnable = [("state", false), ("rung_at", false)];
        manager.create_index(index("import_job", "import_job_runnable", &runnable)).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("import_job").to_owned()).await
    }
}
