//! Settings of the C library's allocator, which Rust, librdkafka and libpq share: they return free memory to
//! the system.
//!
//! Messages and columns are large; one thread allocates them, and another frees them. By default glibc keeps
//! freed memory for reuse, in an arena per thread, and the arenas fragment: after minutes of load, nine
//! tenths of a reader's memory was free, and it still grew. **With these settings, large blocks come from the
//! system and go back to it.** Only glibc is configured.

/// Configures the allocator. Call it before any other thread starts. It overrides the environment
/// (`MALLOC_ARENA_MAX` and the like).
pub fn configure() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::configure();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    #![expect(unsafe_code, reason = "mallopt has no safe binding")]

    /// Parameters of `mallopt` and their values.
    const SETTINGS: [(i32, i32); 3] = [
        // Bytes. Blocks of this size and more are mapped, and unmapped when they are freed. The value is
        // glibc's default, but glibc raises the default as soon as such a block is freed.
        (libc::M_MMAP_THRESHOLD, 128 * 1024),
        // Bytes. Free memory at the end of an arena goes back once it exceeds this.
        (libc::M_TRIM_THRESHOLD, 1024 * 1024),
        // Arenas for smaller blocks. Two, because few threads allocate at the same time.
        (libc::M_ARENA_MAX, 2),
    ];

    /// Whether glibc accepted all settings. A refused setting changes nothing.
    pub(super) fn configure() -> bool {
        // SAFETY: takes and returns plain numbers.
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
