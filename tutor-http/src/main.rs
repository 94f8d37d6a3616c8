//! The `neuro-tutor` binary.

use std::process::ExitCode;

/// From this size on, in bytes, the allocator asks the system for memory of its own, and gives it
/// back when it is freed. What glibc makes of it by itself keeps the 16 MiB that opening a store
/// took.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MEMORY_FROM: i32 = 128 * 1024;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "there is no safe way to set up the allocator")]
    // SAFETY: it takes two numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MEMORY_FROM);
    }
    ExitCode::from(tutor_http::cli::main(std::env::args_os()))
}
