//! The table `import_rejection`: records of imports that were rejected, or that differ from the stored event.

use sea_orm::entity::prelude::*;

/// One rejection.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_rejection")]
pub struct Model {
    /// The owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The import.
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_job_id: Uuid,
    /// The number of the record in the payload, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: i64,
    /// The number of its line, from 1. Null if the format has no lines.
    pub line: Option<i64>,
    /// A JSON Pointer to the field in the record.
    pub pointer: Option<String>,
    /// The problem code, as on the wire.
    pub code: String,
    /// What is wrong, in one sentence.
    pub detail: String,
    /// The beginning of the record.
    pub excerpt: String,
}

/// No relation is declared, because every query names its user and writes its own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
