//! The laws of [`Provider`](crate::Provider): each a function that takes a provider and panics where
//! the law is broken. [`provider_laws!`](crate::provider_laws) runs them all.
//!
//! The provider may answer what it likes, and may fail: the laws are about how it does so.

pub mod facts;
pub mod streams;
