//! How memory goes back to the system: settings of the C library's allocator, which Rust, librdkafka and libpq share.
//!
//! Owns nothing else. The one idea: messages and columns are large, come in by one thread and end in another. Left to
//! itself glibc keeps them for reuse, in a pool per thread, and the pools fray: after minutes of load nine tenths of
//! what a reader held was free, and it still grew. **Large blocks come from the system and go back to it.** Other C
//! libraries are left as they are.

/// Configures it, before any other thread is started. What the environment says about it (`MALLOC_ARENA_MAX` and its
/// like) does not count.
pub fn configure() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::configure();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    #![expect(unsafe_code, reason = "the C library's settings have no safe call")]

    /// Parameters and values.
    const SETTINGS: [(i32, i32); 3] = [
        // Bytes. Blocks of this size and more are mapped, and unmapped when they are freed. It is glibc's own first
        // choice, which it gives up as soon as such a block is freed.
        (libc::M_MMAP_THRESHOLD, 128 * 1024),
        // Bytes. So much free memory at the end of a pool goes back, too.
        (libc::M_TRIM_THRESHOLD, 1024 * 1024),
        // Pools for what is smaller. Two, as few threads allocate at the same time.
        (libc::M_ARENA_MAX, 2),
    ];

    /// Whether all settings were taken. One that is refused leaves things as they were.
    pub(super) fn configure() -> bool {
        // SAFETY: takes and gives plain numbers.
        SETTINGS.into_iter().all(|(parameter, value)| unsafe { libc::mallopt(parameter, value) == 1 })
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_settings_are_taken() {
            assert!(super::configure());
        }
    }
}
