//! One record of an import that was refused or differs.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_rejection")]
pub struct Model {
    /// Owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// Its import.
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_job_id: Uuid,
    /// Counts from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: i64,
    /// Counts from 1, where the format has lines.
    pub line: Option<i64>,
    /// JSON Pointer inside the record.
    pub pointer: Option<String>,
    /// Problem code as on the wire.
    pub code: String,
    /// One sentence.
    pub detail: String,
    /// The beginning of the record.
    pub excerpt: String,
}

/// No relation is declared: every query names its user and joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
