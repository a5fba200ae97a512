//! Failpoints: named steps at which a crash test can kill or freeze a program.
//!
//! Only the tests turn on the feature `failpoints`. Without it, [`reach`] does nothing and [`is_planned`] is
//! `false`.

/// Marks a step. `RFM_FAILPOINT=after_copy:3:abort` kills the process when it reaches `after_copy` for the
/// third time; `stop` in place of `abort` freezes it, by SIGSTOP.
#[cfg(feature = "failpoints")]
pub fn reach(step: &str) {
    use std::sync::atomic::Ordering;
    let Some((_, left, action)) = plan().filter(|(name, ..)| name == step) else { return };
    if left.fetch_sub(1, Ordering::SeqCst) != 1 {
        return;
    }
    if action == "stop" {
        let stopped =
            std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
        // The signal gets to a busy process a moment after the command has ended.
        std::thread::sleep(std::time::Duration::from_millis(100));
        tracing::warn!(?stopped, "resumed at {step}");
    } else {
        std::process::abort();
    }
}

/// Whether this process is to die or freeze at `step`. Some steps need preparation that costs time; it is
/// done only then.
#[cfg(feature = "failpoints")]
pub fn is_planned(step: &str) -> bool {
    plan().is_some_and(|(name, ..)| name == step)
}

/// The step, how many times it must still be reached, and what happens then.
#[cfg(feature = "failpoints")]
fn plan() -> Option<&'static (String, std::sync::atomic::AtomicI64, String)> {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicI64;
    static PLAN: OnceLock<Option<(String, AtomicI64, String)>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| {
        let plan = std::env::var("RFM_FAILPOINT").ok()?;
        let mut parts = plan.split(':');
        Some((parts.next()?.into(), parts.next()?.parse::<i64>().ok()?.into(), parts.next()?.into()))
    });
    plan.as_ref()
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub fn reach(_step: &str) {}

/// Never: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub fn is_planned(_step: &str) -> bool {
    false
}
