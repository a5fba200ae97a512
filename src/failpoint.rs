//! Places where a crash test can make the reader die or freeze. Only with the feature `failpoints`, which
//! nothing but tests turns on; without it, [`reach`] is empty.

/// The process gets here. `RFM_FAILPOINT=after_copy:3:abort` kills it at the third time it reaches
/// `after_copy`; with `stop` in place of `abort` it freezes, as by SIGSTOP.
#[cfg(feature = "failpoints")]
pub fn reach(step: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};
    static PLAN: OnceLock<Option<(String, AtomicI64, String)>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| {
        let plan = std::env::var("RFM_FAILPOINT").ok()?;
        let mut parts = plan.split(':');
        Some((parts.next()?.into(), parts.next()?.parse::<i64>().ok()?.into(), parts.next()?.into()))
    });
    let Some((_, left, action)) = plan.as_ref().filter(|(name, ..)| name == step) else { return };
    if left.fetch_sub(1, Ordering::SeqCst) != 1 {
        return;
    }
    if action == "stop" {
        let stopped =
            std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
        tracing::warn!(?stopped, "woke up at {step}");
    } else {
        std::process::abort();
    }
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub fn reach(_step: &str) {}
