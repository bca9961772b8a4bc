//! Carries the core's effects out on the simulated servers, with latencies and failures, as the actuator promises to.

use simulation::failover::{Action, Effect, FollowerName, Input, Outcome, Recruit, RuleId};
use simulation::model::{Lsn, Timeline};

use super::shell::{Run, Shell};

impl Shell {
    // ---- effects -----------------------------------------------------------------------------------------------

    pub(crate) fn begin(&mut self, effect: Effect) {
        let Effect { id, epoch, rule, limit, action } = effect;
        match action {
            Action::Publish(snapshot) => {
                let told = (snapshot.epoch.0, snapshot.service.as_str(), snapshot.primary);
                if told != (self.snapshot.epoch.0, self.snapshot.service.as_str(), self.snapshot.primary) {
                    self.note(|| format!("-> published {told:?}"));
                }
                if let Some(primary) = snapshot.primary {
                    let known = *self.primaries.entry(snapshot.epoch.0).or_insert(primary);
                    if known != primary {
                        let epoch = snapshot.epoch;
                        self.violations
                            .push(format!("epoch {epoch} has two primaries: {known:?} and {primary:?}"));
                    }
                }
                self.snapshot = snapshot;
            }
            Action::Probe(node) => self.next_probe[node.index()] = 0,
            Action::Raise(alarm) => self.note(|| format!("!! {alarm}")),
            Action::RecordHistory(entry) => self.history.push(entry),
            Action::Answer { command, result } => {
                self.answers.push((command.0, result.map_err(|why| why.to_string())));
            }
            action => {
                self.moves += 1;
                self.note(|| format!("-> {id:?} {rule} {action:?}"));
                let slow = self.rng.u32(0..1000) < self.odds.effect_slow;
                let disk = if matches!(action, Action::WriteJournal(_)) { self.journal_ms } else { 0 };
                if let Action::Promote { node, .. } = action
                    && !self.resolved.contains(&(epoch, node.index()))
                {
                    self.violations
                        .push(format!("{node:?} is promoted before its commits in doubt are resolved"));
                }
                let takes = disk + if slow { self.rng.u64(200..3000) } else { self.rng.u64(0..4) };
                let limit = limit.map_or(1000, |limit| limit.as_millis() as u64);
                let now = self.cluster.now;
                // The newer order of a kind about a node ends the older ones that still wait.
                if let Some(kind) = ordered(&action) {
                    let node = action.node();
                    self.runs
                        .retain(|run| !(ordered(&run.action) == Some(kind) && run.action.node() == node));
                }
                let fails = self.rng.u32(0..1000) < self.odds.effect_fails;
                let until = if fails { now + takes } else { now + limit.min(20_000) };
                self.runs.push(Run { id, epoch, action, at: now + takes, until, begun: false, row: None });
            }
        }
    }

    pub(crate) fn carry_out(&mut self) {
        let now = self.cluster.now;
        let mut ended = Vec::new();
        let mut runs = std::mem::take(&mut self.runs);
        runs.retain_mut(|run| {
            if run.at > now {
                return true;
            }
            let outcome =
                if run.until <= now { Some(Outcome::Failed("simulated".into())) } else { self.advance(run) };
            match outcome {
                Some(outcome) => {
                    ended.push((run.id, run.epoch, outcome));
                    false
                }
                None => true,
            }
        });
        self.runs.append(&mut runs);
        for (id, epoch, outcome) in ended {
            self.moves += 1;
            self.feed(Input::EffectDone { id, epoch, outcome });
        }
    }

    /// What a dead proxy had sent is carried out, and nobody hears of it.
    pub(crate) fn haunt(&mut self) {
        let now = self.cluster.now;
        let mut ghosts = std::mem::take(&mut self.ghosts);
        ghosts.retain_mut(|run| run.at > now || (run.until > now && self.advance(run).is_none()));
        self.ghosts = ghosts;
    }

    /// One look at a running effect.
    fn advance(&mut self, run: &mut Run) -> Option<Outcome> {
        if let Action::WriteJournal(record) = &run.action {
            // In the order of the ids: a slow older record does not overwrite a newer one.
            if run.id > self.journal_id {
                self.journal_id = run.id;
                self.journal = Some(record.clone());
            }
            return Some(Outcome::Done);
        }
        if matches!(run.action, Action::AcquireRight | Action::DrainClients { .. }) {
            return Some(Outcome::Done);
        }
        let i = run.action.node()?.index();
        let by_agent =
            matches!(run.action, Action::Rejoin { .. } | Action::Demote { .. } | Action::Start { .. });
        if by_agent && !self.odds.agent {
            return Some(Outcome::Unsupported("no agent".into()));
        }
        let proxy = self.cluster.proxy();
        let one_way = self.cluster.serves(i) && self.cluster.reaches(proxy, i);
        if one_way && !self.cluster.reaches(i, proxy) && !by_agent {
            // It is done, and the answer does not get back.
            let first = !std::mem::replace(&mut run.begun, true);
            if first || run.row.is_none() {
                drop(self.act(run, i, first));
            }
            return None;
        }
        if !self.reachable(i) && !by_agent {
            let refused = !self.cluster.nodes[i].up && self.cluster.linked(i, self.cluster.proxy());
            return refused.then(|| Outcome::Failed("refused".into()));
        }
        let first = !std::mem::replace(&mut run.begun, true);
        self.act(run, i, first)
    }

    fn act(&mut self, run: &mut Run, i: usize, first: bool) -> Option<Outcome> {
        let now = self.cluster.now;
        let extra = self.rng.u64(40..150);
        let n = &mut self.cluster.nodes[i];
        match &run.action {
            Action::StopReceiver(_) => {
                if !n.in_recovery {
                    return Some(Outcome::Failed("not a standby".into()));
                }
                n.upstream = None;
                let recruit = Recruit {
                    received: Lsn(n.wal.len() as u64),
                    replayed: Lsn(n.replayed as u64),
                    timeline: Timeline(n.timeline),
                };
                n.rx.is_none().then_some(Outcome::Recruited(recruit))
            }
            Action::TerminateConflicts(_) | Action::ResumeReplay(_) => {
                n.blocked = false;
                Some(Outcome::Done)
            }
            Action::FinishReplay { target, .. } => {
                (n.replayed as u64 >= target.0).then_some(Outcome::Replayed(Lsn(n.replayed as u64)))
            }
            Action::ResolveInDoubt { .. } => {
                // Asked before everything is replayed, the answer is worth nothing.
                if n.replayed == n.wal.len() {
                    self.resolved.push((run.epoch, i));
                }
                Some(Outcome::Done)
            }
            Action::CatchUp { target, .. } => (n.wal.len() as u64 >= target.0).then_some(Outcome::Done),
            Action::Repoint { upstream, name, .. } => {
                if !n.in_recovery {
                    return Some(Outcome::Failed("not a standby".into()));
                }
                n.upstream = Some(upstream.index());
                n.own = *name == FollowerName::Own;
                Some(Outcome::Done)
            }
            Action::Promote { .. } => {
                if first && n.in_recovery {
                    n.promote_at = Some(now + extra);
                }
                let fork = n.wal.iter().take_while(|r| r.timeline < n.timeline).count();
                (!n.in_recovery)
                    .then_some(Outcome::Promoted { timeline: Timeline(n.timeline), fork: Lsn(fork as u64) })
            }
            Action::WriteTermRow(_) => self.term_row(run, i),
            Action::FenceOld(_) => {
                n.read_only = true;
                n.sync_text = "ANY 1 (fenced)".into();
                Some(Outcome::Fenced(Lsn(n.wal.len() as u64)))
            }
            Action::Quiesce(_) => {
                n.read_only = true;
                Some(Outcome::Fenced(Lsn(n.wal.len() as u64)))
            }
            Action::Unfence(_) => {
                n.read_only = false;
                Some(Outcome::Done)
            }
            Action::SetSyncNames { text, .. } => {
                n.sync_text.clone_from(text);
                Some(Outcome::Done)
            }
            Action::SetReceiverTimeout { timeout, .. } => {
                n.receiver_timeout_ms = timeout.as_millis() as u64;
                Some(Outcome::Done)
            }
            Action::ArmStandbySignal(_) => {
                n.armed = true;
                n.own = false;
                Some(Outcome::Done)
            }
            Action::Demote { upstream, .. } | Action::Rejoin { upstream, .. } => {
                let rewind = matches!(run.action, Action::Rejoin { rewind: true, .. });
                if let Action::Rejoin { twin: Some(twin), .. } = run.action
                    && (!n.in_recovery || n.timeline >= twin.0)
                {
                    return Some(Outcome::Unsupported(
                        "its files do not show that it was not promoted".into(),
                    ));
                }
                if rewind && !self.odds.rewinds {
                    return Some(Outcome::Unsupported("nobody can rewind it".into()));
                }
                if matches!(run.action, Action::Demote { immediate: false, .. }) {
                    self.cluster.shut_down(i);
                }
                Some(self.restart(i, (upstream.index(), rewind)))
            }
            Action::Start { twin, .. } => {
                if twin.is_some_and(|twin| !n.in_recovery || n.timeline >= twin.0) {
                    return Some(Outcome::Unsupported(
                        "its files do not show that it was not promoted".into(),
                    ));
                }
                self.cluster.start(i, extra);
                Some(Outcome::Done)
            }
            other => panic!("{other:?} is not about a node"),
        }
    }

    fn term_row(&mut self, run: &mut Run, i: usize) -> Option<Outcome> {
        if self.cluster.nodes[i].in_recovery {
            return Some(Outcome::Failed("not a primary".into()));
        }
        let row = *run.row.get_or_insert_with(|| self.cluster.append(i, None));
        if self.cancelled.contains(&row) && self.settings.without != Some(RuleId::R6c) {
            return Some(Outcome::Failed("the wait for the quorum was cancelled".into()));
        }
        let n = &self.cluster.nodes[i];
        let waits = n.pending.iter().any(|p| p.id == row);
        let there = n.wal.iter().any(|r| r.id == row);
        if !there {
            return Some(Outcome::Failed("the server was restarted".into()));
        }
        (!waits).then_some(Outcome::Established(Lsn(n.wal.len() as u64)))
    }

    fn restart(&mut self, i: usize, to: (usize, bool)) -> Outcome {
        let (upstream, rewind) = to;
        if rewind && (!self.cluster.serves(upstream) || self.cluster.nodes[upstream].in_recovery) {
            return Outcome::Failed("the primary does not answer".into());
        }
        self.cluster.kill(i);
        if rewind {
            self.cluster.rewind(i, upstream);
        }
        let n = &mut self.cluster.nodes[i];
        n.in_recovery = true;
        n.upstream = Some(upstream);
        n.own = false;
        n.blocked = false;
        n.armed = false;
        let takes = self.rng.u64(50..300);
        self.cluster.start(i, takes);
        Outcome::Done
    }
}

/// Actions of one kind about one node are carried out in their order.
fn ordered(action: &Action) -> Option<&'static str> {
    match action {
        Action::StopReceiver(_)
        | Action::Repoint { .. }
        | Action::Promote { .. }
        | Action::Demote { .. }
        | Action::Rejoin { .. } => Some("whom it follows"),
        Action::FenceOld(_) | Action::Quiesce(_) | Action::Unfence(_) => Some("whether it takes writes"),
        _ => None,
    }
}
