//! Which threads go first where processors are few: those that store, before those that serve browsers.

/// From here on, this thread gets a third of what another one gets that wants the same processor. (On Linux
/// priorities are those of threads; elsewhere nothing is changed.)
pub fn give_way() {
    #[cfg(target_os = "linux")]
    {
        /// As `nice` counts.
        const LOWER: i32 = 5;
        let this = Some(rustix::thread::gettid());
        let lowered = rustix::process::getpriority_process(this)
            .and_then(|now| rustix::process::setpriority_process(this, now + LOWER));
        if let Err(error) = lowered {
            tracing::debug!(%error, "a thread keeps its priority");
        }
    }
}
