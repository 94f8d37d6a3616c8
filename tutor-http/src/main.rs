//! The `neuro-tutor` binary.

use std::process::ExitCode;

/// From this size on, in bytes, the allocator asks the system for memory of its own, and gives it
/// back when it is freed. What glibc makes of it by itself keeps the 16 MiB that opening a store
/// took.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MEMORY_FROM: i32 = 128 * 1024;

fn main() -> ExitCode {
    prepare();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "there is no safe way to set up the allocator")]
    // SAFETY: it takes two numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MEMORY_FROM);
    }
    ExitCode::from(tutor_http::cli::main(std::env::args_os()))
}

/// What this process is allowed. It is no error if the system refuses: all of it works without.
fn prepare() {
    // Memory holds keys and learners' words: no core dump, and no look into it by others.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // Every connection is an open file, and the usual soft limit is a quarter of the connections
    // that are served by default.
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        let wanted = Rlimit {
            current: maximum,
            maximum,
        };
        let _ = setrlimit(Resource::Nofile, wanted);
    }
}
