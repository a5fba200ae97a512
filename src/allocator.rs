//! How memory goes back to the system: settings of the C library's allocator, which Rust, librdkafka and libpq share.
//!
//! Owns nothing else. The one idea: messages and columns are large, come in by one thread and end in another. Left to
//! itself glibc keeps them for reuse, in a pool per thread, and the pools fray: after minutes of load nine tenths of
//! what a reader held was free, and it still grew. **Large blocks come from the system and go back to it.** Other C
//! libraries are left as they are.

#![expect(unsafe_code, reason = "the C library's settings have no safe call")]

/// Blocks of this size and more are mapped, and unmapped when they are freed (glibc's own first choice, which it gives up
/// as soon as such a block is freed).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 128 * 1024;
/// So much free memory at the end of a pool goes back, too.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE: i32 = 1024 * 1024;
/// Pools for what is smaller. Two, as few threads allocate at the same time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const POOLS: i32 = 2;

/// Settles it; before any other thread is started.
pub fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in
        [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, FREE), (libc::M_ARENA_MAX, POOLS)]
    {
        // SAFETY: takes and gives plain numbers. A setting that is refused leaves things as they were.
        unsafe { libc::mallopt(parameter, value) };
    }
}
