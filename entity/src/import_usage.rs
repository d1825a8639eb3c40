//! The table `import_usage`: how many records the imports of a user processed in each hour. It is written
//! only if there is a daily limit of records.

use sea_orm::entity::prelude::*;

/// The records of one user in one hour.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_usage")]
pub struct Model {
    /// The owner of the imports.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The hour, as hours since the epoch by the clock of the database.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: i64,
    /// The number of records in that hour.
    pub records: i64,
}

/// No relation is declared, because every query names its user.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
