//! Tells the linker what a Node add-on is on each platform.

fn main() {
    napi_build::setup();
}
