//! Which versions the schema of an SQL database has, and what leads from one to the next.

/// What leads to a newer schema, or led.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationPlan {
    /// The version that the database had; 0 for an empty one, and for one of the original system.
    pub from: u32,
    /// The version that it gets, or has now.
    pub to: u32,
    /// What is between, in order. Empty if there is nothing to do, and for stores without a
    /// schema.
    pub steps: Vec<Migration>,
    /// True if it has been done.
    pub applied: bool,
}

/// One step from a version of the schema to the next. All or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The version that it leads to.
    pub version: u32,
    /// What it does, for people.
    pub name: &'static str,
    /// The statements, in order.
    pub statements: Vec<&'static str>,
}
