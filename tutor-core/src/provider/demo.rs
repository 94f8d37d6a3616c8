//! stub
#[derive(Debug)] pub struct DemoProvider;
