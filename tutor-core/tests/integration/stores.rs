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

#[cfg(feature = "store-sqlite")]
mod sqlite {
    use std::sync::Arc;

    use tutor_core::store::{Location, SqliteStore, Store};

    async fn durable() -> (SqliteStore, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tutor.db");
        (SqliteStore::open(file).await.unwrap(), directory)
    }
    tutor_core::store_laws!(sessions, durable);
    tutor_core::record_laws!(records, durable);

    async fn by_location() -> (Arc<dyn Store>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("sqlite:///{}/tutor.db", directory.path().display());
        let location: Location = text.parse().unwrap();
        (location.open().await.unwrap(), directory)
    }
    tutor_core::store_laws!(sessions_by_location, by_location);
    tutor_core::record_laws!(records_by_location, by_location);
}

#[cfg(feature = "store-postgres")]
mod postgres {
    use std::sync::Arc;

    use tutor_core::store::{Location, PostgresStore, Store};

    use crate::postgres::empty;

    async fn durable() -> (PostgresStore, ()) {
        let Location::Postgres(url) = empty().await.parse().unwrap() else {
            panic!("not a PostgreSQL URL");
        };
        (PostgresStore::open(&url).await.unwrap(), ())
    }
    tutor_core::record_laws!(records, durable);

    async fn by_location() -> (Arc<dyn Store>, ()) {
        let location: Location = empty().await.parse().unwrap();
        (location.open().await.unwrap(), ())
    }
    tutor_core::store_laws!(sessions_by_location, by_location);
    tutor_core::record_laws!(records_by_location, by_location);
}
