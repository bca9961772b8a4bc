//! Simulated PostgreSQL servers: WAL, timelines, receivers, synchronous commit, and the traps that real ones set.
//!
//! A position is the number of WAL records. Modelled on purpose: a reload is not a fence while replay is blocked (T1); a
//! standby's first reply claims its own replay position on whatever history (T2); a cancelled wait for the quorum looks like
//! success (T4); sessions outlive their postmaster (T5); an orderly stop writes WAL (T9); a frozen primary goes on where it was.

use std::collections::{BTreeMap, VecDeque};

/// One WAL record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rec {
    pub(crate) timeline: u32,
    pub(crate) id: u64,
}

/// A commit that waits for its quorum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) position: usize,
    pub(crate) id: u64,
    pub(crate) appended: u64,
    /// Epoch of the proxy's connection; `None` for a client that bypasses the proxy.
    pub(crate) epoch: Option<u64>,
    /// The wait was cancelled: it is released without its quorum, with a notice (T4).
    pub(crate) cancelled: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rx {
    pub(crate) from: usize,
    pub(crate) last_message: u64,
    pub(crate) streaming: bool,
    pub(crate) own: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reply {
    at: u64,
    from: usize,
    flushed: usize,
    own: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) up: bool,
    /// The postmaster is dead, and sessions of the proxy's connections of this epoch live on (T5).
    pub(crate) orphans: Option<u64>,
    pub(crate) starting_until: u64,
    pub(crate) frozen: bool,
    pub(crate) in_recovery: bool,
    pub(crate) timeline: u32,
    pub(crate) wal: Vec<Rec>,
    pub(crate) replayed: usize,
    pub(crate) upstream: Option<usize>,
    pub(crate) own: bool,
    pub(crate) rx: Option<Rx>,
    connect_at: u64,
    /// Replay is blocked by a conflict: configuration is not acted on (T1).
    pub(crate) blocked: bool,
    /// Receives one record in this many milliseconds at most; zero: as fast as the others.
    pub(crate) slow: u64,
    pub(crate) sync_text: String,
    pub(crate) read_only: bool,
    pub(crate) receiver_timeout_ms: u64,
    pub(crate) armed: bool,
    pub(crate) started: u64,
    pub(crate) promote_at: Option<u64>,
    /// Claims of the connected standbys: flushed position, and whether under the own name.
    pub(crate) claims: BTreeMap<usize, (usize, bool)>,
    pub(crate) pending: Vec<Pending>,
    inbox: VecDeque<Reply>,
}

#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// `cut[a][b]`: nothing gets from a to b; index n stands for the proxy.
    pub(crate) cut: Vec<Vec<bool>>,
    pub(crate) now: u64,
    pub(crate) next_id: u64,
}

/// A commit that was acknowledged by the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Released {
    pub(crate) node: usize,
    pub(crate) timeline: u32,
    pub(crate) pending: Pending,
}

impl Cluster {
    pub(crate) fn new(count: usize, sync_text: &str) -> Self {
        let wal: Vec<Rec> = (1..=10).map(|id| Rec { timeline: 1, id }).collect();
        let nodes = (0..count)
            .map(|i| Node {
                up: true,
                orphans: None,
                starting_until: 0,
                frozen: false,
                in_recovery: i != 0,
                timeline: 1,
                wal: wal.clone(),
                replayed: 10,
                upstream: (i != 0).then_some(0),
                own: true,
                rx: None,
                connect_at: 0,
                blocked: false,
                slow: 0,
                sync_text: sync_text.to_owned(),
                read_only: false,
                receiver_timeout_ms: 1000,
                armed: false,
                started: 0,
                promote_at: None,
                claims: BTreeMap::new(),
                pending: Vec::new(),
                inbox: VecDeque::new(),
            })
            .collect();
        Self { nodes, cut: vec![vec![false; count + 1]; count + 1], now: 0, next_id: 100 }
    }

    pub(crate) fn proxy(&self) -> usize {
        self.nodes.len()
    }

    /// Cuts or mends a link, both ways.
    pub(crate) fn part(&mut self, a: usize, b: usize, cut: bool) {
        (self.cut[a][b], self.cut[b][a]) = (cut && a != b, cut && a != b);
    }

    /// Both ways: what a new connection, and a question with an answer, need.
    pub(crate) fn linked(&self, a: usize, b: usize) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    /// One way.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        !self.cut[from][to]
    }

    /// Answers SQL (to whoever reaches it).
    pub(crate) fn serves(&self, i: usize) -> bool {
        let n = &self.nodes[i];
        n.up && !n.frozen && n.starting_until <= self.now
    }

    pub(crate) fn name(i: usize) -> String {
        format!("n{i}")
    }

    /// One step of time: replication, replay, acknowledgements. Returns what was acknowledged.
    pub(crate) fn tick(&mut self) -> Vec<Released> {
        for i in 0..self.nodes.len() {
            self.promote_tick(i);
            self.receive_tick(i);
        }
        (0..self.nodes.len()).flat_map(|i| self.release(i)).collect()
    }

    fn promote_tick(&mut self, i: usize) {
        let now = self.now;
        if !self.serves(i) || self.nodes[i].promote_at.is_none_or(|at| at > now) {
            return;
        }
        self.nodes[i].promote_at = None;
        self.drop_receiver(i);
        let id = self.fresh();
        let n = &mut self.nodes[i];
        if !n.in_recovery {
            return;
        }
        n.timeline = n.wal.last().map_or(1, |r| r.timeline) + 1;
        n.in_recovery = false;
        n.armed = false;
        n.wal.push(Rec { timeline: n.timeline, id });
        n.replayed = n.wal.len();
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn drop_receiver(&mut self, i: usize) {
        if let Some(rx) = self.nodes[i].rx.take() {
            let peer = &mut self.nodes[rx.from];
            if peer.up && !peer.frozen {
                peer.claims.remove(&i);
            }
        }
        self.nodes[i].connect_at = self.now + 20;
    }

    fn receive_tick(&mut self, i: usize) {
        let now = self.now;
        if !self.serves(i) || !self.nodes[i].in_recovery {
            if !self.nodes[i].up {
                self.drop_receiver(i);
            }
            return;
        }
        if !self.nodes[i].blocked {
            let n = &mut self.nodes[i];
            n.replayed = n.wal.len().min(n.replayed + 8);
            // Only an unblocked startup process acts on a changed primary_conninfo.
            let wrong = n.rx.is_some_and(|rx| Some(rx.from) != n.upstream || rx.own != n.own);
            if wrong {
                self.drop_receiver(i);
            }
        }
        match self.nodes[i].rx {
            Some(rx) => self.stream(i, rx),
            None if self.nodes[i].connect_at <= now && !self.nodes[i].blocked => self.connect(i),
            None => {}
        }
    }

    fn stream(&mut self, i: usize, rx: Rx) {
        let u = rx.from;
        // On a connection that exists WAL arrives although replies do not get back.
        let heard = self.serves(u) && self.reaches(u, i);
        if !self.nodes[u].up && self.linked(i, u) {
            return self.drop_receiver(i);
        }
        let silent = self.now - rx.last_message;
        if !heard {
            if silent > self.nodes[i].receiver_timeout_ms {
                self.drop_receiver(i);
            }
            return;
        }
        if !rx.streaming {
            // The history does not match: it waits, and gives up after a while.
            if silent > 500 {
                self.drop_receiver(i);
            }
            return;
        }
        let have = self.nodes[i].wal.len();
        let slow = self.nodes[i].slow;
        let batch = if slow == 0 { 8 } else { usize::from(self.now.is_multiple_of(slow)) };
        let more: Vec<Rec> = self.nodes[u].wal.iter().skip(have).take(batch).copied().collect();
        let n = &mut self.nodes[i];
        n.wal.extend(more);
        n.timeline = n.wal.last().map_or(n.timeline, |r| r.timeline);
        if let Some(rx) = n.rx.as_mut() {
            rx.last_message = self.now;
        }
        let flushed = n.wal.len();
        self.reply(i, u, flushed, rx.own);
    }

    fn reply(&mut self, i: usize, to: usize, flushed: usize, own: bool) {
        if !self.reaches(i, to) {
            return;
        }
        let at = self.now + 1;
        let inbox = &mut self.nodes[to].inbox;
        if inbox.back().is_some_and(|r| r.from == i && r.flushed == flushed && r.own == own) {
            return;
        }
        if inbox.len() < 64 {
            inbox.push_back(Reply { at, from: i, flushed, own });
        }
    }

    fn connect(&mut self, i: usize) {
        let Some(u) = self.nodes[i].upstream else { return };
        self.nodes[i].connect_at = self.now + 100;
        if u == i || !self.serves(u) || !self.linked(i, u) {
            return;
        }
        let (mine, theirs) = (&self.nodes[i].wal, &self.nodes[u].wal);
        let prefix = mine.len() <= theirs.len()
            && mine.last().map(|r| r.id) == theirs.get(mine.len() - 1).map(|r| r.id);
        let own = self.nodes[i].own;
        self.nodes[i].rx = Some(Rx { from: u, last_message: self.now, streaming: prefix, own });
        // The first reply claims the replayed position, whatever history it is on (T2).
        let claimed = self.nodes[i].replayed;
        self.reply(i, u, claimed, own);
    }

    /// Standbys that a commit needs; `None`: it can never be acknowledged.
    pub(crate) fn needs(text: &str) -> Option<usize> {
        if text.contains("fenced") {
            return None;
        }
        Some(text.strip_prefix("ANY ").and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0))
    }

    fn release(&mut self, i: usize) -> Vec<Released> {
        if !self.serves(i) && self.nodes[i].orphans.is_none() {
            return Vec::new();
        }
        let now = self.now;
        let n = &mut self.nodes[i];
        while n.inbox.front().is_some_and(|r| r.at <= now) {
            if let Some(r) = n.inbox.pop_front() {
                n.claims.insert(r.from, (r.flushed, r.own));
            }
        }
        if n.in_recovery {
            n.pending.clear();
            return Vec::new();
        }
        let Some(needs) = Self::needs(&n.sync_text) else { return Vec::new() };
        let text = n.sync_text.clone();
        let counts = |position: usize| {
            n.claims
                .iter()
                .filter(|(from, (flushed, own))| {
                    *own && text.contains(&Self::name(**from)) && *flushed >= position
                })
                .count()
        };
        let (done, wait): (Vec<Pending>, Vec<Pending>) =
            n.pending.iter().partition(|p| p.cancelled || needs == 0 || counts(p.position) >= needs);
        n.pending = wait;
        let timeline = n.timeline;
        done.into_iter().map(|pending| Released { node: i, timeline, pending }).collect()
    }

    /// A client commits on this node; false where it takes no writes.
    pub(crate) fn commit(&mut self, i: usize, epoch: Option<u64>) -> Option<u64> {
        let n = &self.nodes[i];
        if !self.serves(i) || n.in_recovery || n.read_only || n.pending.len() > 200 {
            return None;
        }
        Some(self.append(i, epoch))
    }

    /// Writes although the default is read-only: what the proxy's own session does.
    pub(crate) fn append(&mut self, i: usize, epoch: Option<u64>) -> u64 {
        let id = self.fresh();
        let now = self.now;
        let n = &mut self.nodes[i];
        n.wal.push(Rec { timeline: n.timeline, id });
        n.replayed = n.wal.len();
        n.pending.push(Pending { position: n.wal.len(), id, appended: now, epoch, cancelled: false });
        id
    }

    /// What is left of the sessions of a dead server commits once more, and nobody has asked for it.
    pub(crate) fn haunt(&mut self, i: usize) {
        if let Some(epoch) = self.nodes[i].orphans.filter(|_| !self.nodes[i].frozen) {
            self.append(i, Some(epoch));
        }
    }

    // ---- faults ------------------------------------------------------------------------------------------------

    /// Somebody ends every wait for the quorum on this node (T4).
    pub(crate) fn cancel_waits(&mut self, i: usize) {
        self.nodes[i].pending.iter_mut().for_each(|pending| pending.cancelled = true);
    }

    /// Only the postmaster, and the processes that look after it: new connections are refused, no standby is served, and
    /// sessions that are busy go on (T5).
    pub(crate) fn kill_postmaster(&mut self, i: usize, epoch: u64) {
        self.kill(i);
        self.nodes[i].orphans = Some(epoch);
    }

    /// An orderly stop: the shutdown checkpoint is WAL that nobody else has if nobody receives any more (T9).
    pub(crate) fn shut_down(&mut self, i: usize) {
        if self.serves(i) && !self.nodes[i].in_recovery {
            self.append(i, None);
        }
        self.kill(i);
    }

    pub(crate) fn kill(&mut self, i: usize) {
        self.drop_receiver(i);
        let n = &mut self.nodes[i];
        n.up = false;
        n.orphans = None;
        n.frozen = false;
        n.promote_at = None;
        n.pending.clear();
        n.claims.clear();
        n.inbox.clear();
    }

    pub(crate) fn start(&mut self, i: usize, takes: u64) {
        let now = self.now;
        let n = &mut self.nodes[i];
        if n.up {
            return;
        }
        n.up = true;
        n.starting_until = now + takes;
        n.started = now;
        if n.armed {
            n.in_recovery = true;
            n.armed = false;
        }
        n.replayed = n.wal.len();
        n.connect_at = now;
    }

    /// Cuts this node's WAL back to what `to` shares with it.
    pub(crate) fn rewind(&mut self, i: usize, to: usize) {
        if self.nodes[i].timeline == self.nodes[to].timeline {
            // pg_rewind: "source and target cluster are on the same timeline", and nothing is done.
            return;
        }
        let shared = self.nodes[i].wal.iter().zip(&self.nodes[to].wal).take_while(|(a, b)| a == b).count();
        let n = &mut self.nodes[i];
        n.wal.truncate(shared);
        n.replayed = n.replayed.min(shared);
        n.timeline = n.wal.last().map_or(1, |r| r.timeline);
    }
}
