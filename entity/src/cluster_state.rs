//! The database cluster that handed out the positions of the feeds: one row.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "cluster_state")]
pub struct Model {
    /// 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// PostgreSQL's `system_identifier`, as text; none before a process has seen it, and on SQLite.
    pub system_identifier: Option<String>,
    /// PostgreSQL's timeline, which is another one after a failover; none as above.
    pub timeline: Option<i64>,
    /// Random, 0 at first; another one since positions may have been lost. Every cursor holds it.
    pub generation: i64,
}

/// No relation is declared: there is one row.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
