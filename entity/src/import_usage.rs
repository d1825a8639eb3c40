//! The table `import_usage`: how many records the imports of a user processed in each hour. It is written
//! only if there is a daily limit of records.

use sea_orm::entity::prelude::*;

/// How many records the imports of one user took in one hour.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_usage")]
pub struct Model {
    /// The user who owns the imports.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The hour, as the number of whole hours from the Unix epoch to it, by the clock of the database.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: i64,
    /// How many records the imports of the user took in this hour.
    pub records: i64,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
