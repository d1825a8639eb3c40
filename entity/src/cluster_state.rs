//! The table `cluster_state`: the PostgreSQL cluster that assigned the positions of the feeds. It has one
//! row.

use sea_orm::entity::prelude::*;

/// The only row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "cluster_state")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// PostgreSQL's `system_identifier`, as text. `None` until a process has read it, and on SQLite.
    pub system_identifier: Option<String>,
    /// PostgreSQL's timeline, which changes with a failover. `None` in the same cases.
    pub timeline: Option<i64>,
    /// The generation of all feeds. 0 at first, and a random number after positions may have been lost. Every
    /// cursor contains it.
    pub generation: i64,
}

/// No relation is declared, because the row refers to nothing.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
