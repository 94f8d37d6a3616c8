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

#[cfg(feature = "store-sled")]
mod sled {
    use tutor_core::conformance::FaultyStore;
    use tutor_core::store::{Durability, SledStore};

    async fn durable() -> (SledStore, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (SledStore::open(directory.path()).await.unwrap(), directory)
    }
    tutor_core::store_laws!(sessions, durable);
    tutor_core::record_laws!(records, durable);

    async fn faulty() -> (FaultyStore<SledStore>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let options = SledStore::options().durability(Durability::Process);
        (
            FaultyStore::new(options.open(directory.path()).await.unwrap()),
            directory,
        )
    }
    tutor_core::store_laws!(faulty_sessions, faulty);
}
