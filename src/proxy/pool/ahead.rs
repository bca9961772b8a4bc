//! Connections that are opened before somebody asks for them.

use std::rc::Rc;

use super::UserPool;
use crate::model::{Epoch, NodeId};

/// Connections that are opened for those who wait for a primary, before it may be written to; the others open their own. More
/// would be a storm on a server that has just been promoted.
const AHEAD_MAX: u32 = 8;

impl UserPool {
    /// Opens connections until `idle_min` are there, with the settings of the last client that signed in.
    pub async fn warm(self: &Rc<Self>, node: NodeId, epoch: Epoch) {
        let Some((profile, _)) = self.greetings.borrow().last().map(|(p, g)| (Rc::clone(p), Rc::clone(g)))
        else {
            return;
        };
        loop {
            let figures = self.figures(node);
            if figures.total >= self.settings.borrow().idle_min || !self.reserve(node) {
                return;
            }
            match self.open(node, &profile, epoch).await {
                Ok(conn) => self.give_back(conn),
                Err(_) => return,
            }
        }
    }

    /// Opens connections to the next primary for those who wait in line, so that they do not sign in one after another
    /// when it opens.
    pub async fn meet_line(self: &Rc<Self>, node: NodeId, epoch: Epoch) {
        let Some((profile, _)) = self.greetings.borrow().last().map(|(p, g)| (Rc::clone(p), Rc::clone(g)))
        else {
            return;
        };
        let figures = self.figures(node);
        let room = self.settings.borrow().size_max.saturating_sub(figures.total);
        let waiting = u32::try_from(self.line.len()).unwrap_or(u32::MAX);
        let wanted = waiting.min(AHEAD_MAX).saturating_sub(figures.idle).min(room);
        let open = async |_| {
            if self.reserve(node)
                && let Ok(conn) = self.open(node, &profile, epoch).await
            {
                self.give_back(conn);
            }
        };
        futures_util::future::join_all((0..wanted).map(open)).await;
    }
}
