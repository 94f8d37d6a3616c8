//! The laws of stores, on every store and wrapper of this crate.

use std::sync::Arc;

use tutor_core::SessionStore;
use tutor_core::conformance::FaultyStore;
use tutor_core::store::{MemoryStore, SharedStore};

async fn memory() -> (MemoryStore, ()) {
    (MemoryStore::new(), ())
}
tutor_core::store_laws!(memory_sessions, memory);
tutor_core::record_laws!(memory_records, memory);

async fn shared() -> (SharedStore, ()) {
    (Arc::new(MemoryStore::new()), ())
}
tutor_core::store_laws!(shared_sessions, shared);

async fn boxed() -> (Box<dyn SessionStore>, ()) {
    (Box::new(MemoryStore::new()), ())
}
tutor_core::store_laws!(boxed_sessions, boxed);

async fn faulty() -> (FaultyStore<MemoryStore>, ()) {
    (FaultyStore::new(MemoryStore::new()), ())
}
tutor_core::store_laws!(faulty_sessions, faulty);
tutor_core::record_laws!(faulty_records, faulty);
