//! stub until it lands
use crate::error::Result;
#[derive(Debug)]
pub struct SledStore;
impl SledStore {
    pub async fn open(_: impl AsRef<std::path::Path>) -> Result<super::MemoryStore> {
        Ok(super::MemoryStore::default())
    }
}
