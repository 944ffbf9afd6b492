//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Far longer than anything here takes: it ends a test that would hang, and measures nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(20);

/// Tries until it succeeds, and returns what it got.
///
/// # Errors
/// After 30 seconds, with the error of the last attempt.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > DEADLINE => {
                return Err(error).with_context(|| format!("waited {} s for {what}", DEADLINE.as_secs()));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Observes until the condition holds of what was observed, and returns that.
///
/// # Errors
/// After 30 seconds, with the last observation, or the last reason why there was none.
pub fn wait_until<T: std::fmt::Debug>(
    what: &str,
    mut observe: impl FnMut() -> Result<T>,
    condition: impl Fn(&T) -> bool,
) -> Result<T> {
    wait_for(what, || {
        let observed = observe()?;
        if !condition(&observed) {
            bail!("last seen: {observed:?}");
        }
        Ok(observed)
    })
}
