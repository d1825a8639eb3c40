//! The table `import_rejection`: records of imports that were rejected, or that differ from the stored event.

use sea_orm::entity::prelude::*;

/// One record of an import that was rejected, or whose event is stored with different content.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_rejection")]
pub struct Model {
    /// The user who owns the import.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The id of the import that the record belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_job_id: Uuid,
    /// The number of the record in the payload, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: i64,
    /// The number of the line of the record in the payload, from 1. Null if the format has no lines.
    pub line: Option<i64>,
    /// A JSON Pointer to the first wrong field of the record. Null if the problem is of no single field.
    pub pointer: Option<String>,
    /// The problem code of the rejection, as the API names it.
    pub code: String,
    /// What is wrong with the record, as text for a person.
    pub detail: String,
    /// The beginning of the record. Cleared when the payload of the import is removed.
    pub excerpt: String,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
