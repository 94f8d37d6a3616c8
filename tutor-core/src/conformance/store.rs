//! The laws of [`SessionStore`](crate::SessionStore): each a function that takes an empty store
//! and panics where the law is broken. [`store_laws!`](crate::store_laws) runs them all.

pub mod begin;
pub mod close;
pub mod deletion;
pub mod finish;
pub mod importing;
pub mod messages;
pub mod owners;
pub mod sessions;
pub mod walking;
