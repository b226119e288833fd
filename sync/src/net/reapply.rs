//! When this device brings back its work that lost: a while after, so that two writers do not lose to each other for ever.
//!
//! The pause is drawn anew each time, and doubles while it loses again soon.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::swarm::Swarm;
use crate::publish::Reapplied;

/// The shortest pause, and the longest first one, in milliseconds.
const FIRST_MS: (u64, u64) = (50, 500);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(10);
/// After such a time without a loss, the pauses are short again.
const CALM: Duration = Duration::from_secs(30);
/// How often it is looked whether it may be done by now.
const AGAIN: Duration = Duration::from_secs(30);

/// Brings work back that lost, for as long as it is not stopped.
pub(super) async fn run(swarm: Arc<Swarm>) {
    let (mut losses, mut last) = (0, Instant::now());
    loop {
        sleep(pause(losses)).await;
        let is_open = match swarm.store_work(|local| local.reapply()).await {
            Ok(Reapplied::Nothing) => false,
            Ok(Reapplied::Done(outcome)) if outcome.more => continue,
            Ok(Reapplied::Done(outcome)) => !outcome.unreadable.is_empty(),
            Ok(Reapplied::Again) => {
                losses += 1;
                continue;
            }
            Ok(Reapplied::NotNow) => true,
            Err(error) => {
                tracing::warn!(%error, "work that lost is not brought back yet");
                true
            }
        };
        swarm.waits_to_reapply.store(is_open, Ordering::Relaxed);
        if is_open {
            drop(timeout(AGAIN, swarm.lost.notified()).await);
        } else {
            swarm.lost.notified().await;
        }
        losses = if last.elapsed() > CALM { 0 } else { losses + 1 };
        last = Instant::now();
    }
}

/// A pause that is drawn, and doubled for each loss before.
fn pause(losses: u32) -> Duration {
    let mut random = [0; 8];
    // Without randomness, others draw.
    let random = getrandom::fill(&mut random).map_or(0, |()| u64::from_le_bytes(random));
    let drawn = Duration::from_millis(FIRST_MS.0 + random % (FIRST_MS.1 - FIRST_MS.0));
    drawn.saturating_mul(2_u32.saturating_pow(losses.min(16))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        for losses in 0..100 {
            let pause = pause(losses);
            assert!(pause >= Duration::from_millis(FIRST_MS.0) && pause <= LONGEST);
        }
        assert_eq!(pause(100), LONGEST);
    }
}
