//! What each node last said. In: observations, in any order. Out: facts with their age, and since when a node fails.
//!
//! Nothing is decided here.

use std::collections::VecDeque;
use std::time::Instant;

use super::care::Care;
use super::observation::{Facts, Observation, Reach};
use super::settings::Member;
use super::status::Standing;
use crate::model::{Lsn, NodeId, SystemId, Timeline};

/// Samples of the primary's position that are kept to turn a replica's position into time.
const SAMPLES_MAX: usize = 256;

/// One node: how it is configured, what it last said.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) member: Member,
    /// The newest answer, even if probes have failed since.
    pub(super) seen: Option<Seen>,
    /// What came of the newest probe.
    pub(super) last: Option<Last>,
    /// Since when every probe failed: when the first of them was sent.
    pub(super) failing_since: Option<Instant>,
    /// Since when it says that it is starting or stopping.
    pub(super) grace_since: Option<Instant>,
    pub(super) standing: Standing,
    /// What is being done about it.
    pub(super) care: Care,
    /// We made it refuse writes and have not undone that.
    pub(super) fenced: bool,
    /// Its `synchronous_standby_names` when last seen without the mark of a fence.
    pub(super) sync_names: String,
}

/// What `FenceOld` leaves in `synchronous_standby_names`.
pub(super) const FENCE_MARK: &str = "fenced";

/// Facts and the probe that brought them.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) facts: Facts,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

/// The newest probe, without its facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) sent: Instant,
    pub(super) reach: ReachKind,
}

/// `Reach` without the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReachKind {
    Answered,
    Refused,
    Reset,
    Timeout,
    Starting,
    ShuttingDown,
    AuthFailed,
    Other,
}

impl Node {
    pub(super) fn new(id: NodeId, member: Member) -> Self {
        Self {
            id,
            member,
            seen: None,
            last: None,
            failing_since: None,
            grace_since: None,
            standing: Standing::Unseen,
            care: Care::default(),
            fenced: false,
            sync_names: String::new(),
        }
    }

    /// Whether it is ours to look after: one that is not configured any more belongs to others.
    pub(super) fn is_ours(&self) -> bool {
        !self.member.removed
    }

    /// Takes an observation in; false where a newer one is known already.
    pub(super) fn observe(&mut self, observation: Observation) -> bool {
        let Observation { sent, answered, reach, .. } = observation;
        if self.last.is_some_and(|last| sent < last.sent) {
            return false;
        }
        let kind = kind(&reach);
        self.last = Some(Last { sent, reach: kind });
        let in_grace = matches!(kind, ReachKind::Starting | ReachKind::ShuttingDown);
        self.grace_since = if in_grace { self.grace_since.or(Some(sent)) } else { None };
        if let Reach::Answered(facts) = reach {
            self.failing_since = None;
            if !facts.sync_names.contains(FENCE_MARK) {
                self.sync_names.clone_from(&facts.sync_names);
            }
            self.seen = Some(Seen { facts: *facts, sent, answered });
        } else {
            self.failing_since = self.failing_since.or(Some(sent));
        }
        true
    }

    /// It is known to be a primary from now on; a probe that was sent before and still saw a standby is outdated.
    pub(super) fn crown(&mut self, now: Instant, timeline: Timeline, position: Lsn) {
        let Some(seen) = self.seen.as_mut() else { return };
        if seen.facts.in_recovery {
            let facts = &mut seen.facts;
            (facts.in_recovery, facts.timeline, facts.receiver) = (false, timeline, None);
            (facts.inserted, facts.flushed) = (Some(position), Some(position));
        }
        (seen.sent, seen.answered) = (now, now);
        self.last = Some(Last { sent: now, reach: ReachKind::Answered });
        (self.failing_since, self.grace_since) = (None, None);
    }

    /// It was restarted as something else: what it said before is outdated.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.last = Some(Last { sent: now, reach: ReachKind::Starting });
        (self.failing_since, self.grace_since) = (Some(now), Some(now));
    }

    /// What it says now; `None` while its newest probe failed.
    pub(super) fn facts(&self) -> Option<&Facts> {
        let answers = self.last.is_some_and(|last| last.reach == ReachKind::Answered);
        self.seen.as_ref().filter(|_| answers).map(|seen| &seen.facts)
    }

    /// What it says now, where the probe was sent at `since` or later.
    pub(super) fn facts_since(&self, since: Instant) -> Option<&Facts> {
        self.facts().filter(|_| self.seen.as_ref().is_some_and(|seen| seen.sent >= since))
    }

    /// A standby of this cluster that answers.
    pub(super) fn standby(&self, cluster: SystemId) -> Option<&Facts> {
        self.facts().filter(|facts| facts.in_recovery && facts.system_id == cluster)
    }

    /// A primary of this cluster that answers.
    pub(super) fn primary(&self, cluster: SystemId) -> Option<&Facts> {
        self.facts().filter(|facts| !facts.in_recovery && facts.system_id == cluster)
    }

    /// Timeline that it was last seen on.
    pub(super) fn timeline(&self) -> Timeline {
        self.seen.as_ref().map_or(Timeline(0), |seen| seen.facts.timeline)
    }
}

fn kind(reach: &Reach) -> ReachKind {
    match reach {
        Reach::Answered(_) => ReachKind::Answered,
        Reach::Refused => ReachKind::Refused,
        Reach::Reset => ReachKind::Reset,
        Reach::Timeout => ReachKind::Timeout,
        Reach::Starting => ReachKind::Starting,
        Reach::ShuttingDown => ReachKind::ShuttingDown,
        Reach::AuthFailed => ReachKind::AuthFailed,
        Reach::Other => ReachKind::Other,
    }
}

/// Where the primary was, and when: turns a replica's position into time without comparing two clocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(VecDeque<(Instant, Lsn)>);

impl Trail {
    /// The primary was at `position` no later than `at`.
    pub(super) fn add(&mut self, at: Instant, position: Lsn) {
        if self.0.back().is_some_and(|(last, _)| *last >= at) {
            return;
        }
        if self.0.len() == SAMPLES_MAX {
            // Thin out instead of forgetting: every second one goes, so old lags are still measured, more coarsely.
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.0.push_back((at, position));
    }

    /// A new primary has a new trail.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Since when, seen from `at`, a node that has replayed up to `position` misses something; `None` if nothing.
    pub(super) fn behind_since(&self, position: Lsn, at: Instant) -> Option<Instant> {
        let known = self.0.iter().rev().filter(|(sampled, _)| *sampled <= at);
        let mut missed = None;
        for (sampled, primary) in known {
            if *primary <= position {
                break;
            }
            missed = Some(*sampled);
        }
        missed
    }
}
