//! Standbys that die are started again. One that was stopped stays down, because somebody wanted it so; one that is being
//! rejoined is in other hands, and so is a primary, whose death is a matter for the failover core.

use std::convert::Infallible;
use std::time::Duration;

use super::cluster::START_LIMIT;
use super::{Cluster, Progress, Step};
use crate::model::NodeId;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A standby that does not start is left alone for so long.
const RETRY_AFTER: Duration = Duration::from_secs(10);

impl Cluster {
    /// Keeps the standbys running, until it is dropped. One after another: more than one dead at a time is rare.
    pub async fn keep_standbys(&self, progress: Progress<'_>) -> Infallible {
        loop {
            let pause = if self.revive(progress).await { LOOK_EVERY } else { RETRY_AFTER };
            tokio::time::sleep(pause).await;
        }
    }

    /// Starts what has died; `false`: something would not start.
    async fn revive(&self, progress: Progress<'_>) -> bool {
        let mut all = true;
        for (number, node) in (0..=u16::MAX).zip(self.nodes()) {
            let Some(_busy) = self.busy(NodeId(number)).ok().and_then(|busy| busy.try_lock_owned().ok())
            else {
                continue;
            };
            if !node.is_standby() || !node.has_died() {
                continue;
            }
            match node.start(START_LIMIT).await {
                Ok(_) => progress(&Step::Revived(node.name())),
                Err(_) => all = false,
            }
        }
        all
    }
}
