//! The table `cluster_state`: the PostgreSQL cluster that assigned the positions of the feeds. It has one
//! row.

use sea_orm::entity::prelude::*;

/// The only row of the table: the identity of the PostgreSQL cluster, and the generation of all feeds.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "cluster_state")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// The `system_identifier` of the PostgreSQL cluster, as text. `None` on SQLite, and until a process
    /// could read it.
    pub system_identifier: Option<String>,
    /// The timeline of the PostgreSQL cluster, which changes with a failover. `None` on SQLite, and until a
    /// process could read it.
    pub timeline: Option<i64>,
    /// The generation of the feeds of all users. 0 at first. It becomes a random number when a failover or a
    /// restored backup may have lost positions. Cursors contain it, so earlier ones are then invalid.
    pub generation: i64,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
