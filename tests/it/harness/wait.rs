//! Waiting for conditions, never for time to pass.

use std::time::{Duration, Instant};

/// Long enough for anything on a busy machine; a test that waits this long has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Asks `look` again and again until it sees something; panics with `what` when `limit` is over.
pub(crate) async fn eventually<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + limit;
    loop {
        // A look that hangs is a condition that does not come.
        match tokio::time::timeout(limit, look()).await {
            Ok(Some(seen)) => return seen,
            _ if Instant::now() >= until => panic!("not within {limit:?}: {what}"),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
