//! Records that the imports of a user took, by the hour: kept where there is a daily allowance.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_usage")]
pub struct Model {
    /// Whose imports.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// Hours since the epoch, by the clock of the database.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: i64,
    /// Records of that hour.
    pub records: i64,
}

/// No relation is declared: every query names its user.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
