//! stub
#[derive(Debug)]
pub struct SledStore;
