//! The journal: what has to survive a restart of primacy. Intent is durable before the deed.
//!
//! One document (`store`): the core's record, and the history of changes of primary, the newest of which are kept.
//! Nodes are written by name, so that a changed order in the configuration does not make another node the primary.
//! Without a state directory everything is kept in memory only: automatic failover works, but what was begun when
//! primacy itself is killed is not finished by the next start.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::report::Change;
use super::store::{Store, StoreError};
use crate::failover::{Cohort, Intent, IntentPhase, Record, Twin};
use crate::model::{Epoch, Lsn, NodeId, SystemId, Timeline};

/// Changes of primary that are remembered.
const HISTORY_MAX: usize = 200;

/// The version of the document's form.
const FORM: u32 = 1;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or written.
    #[error("the journal cannot be kept")]
    Store(#[from] StoreError),
    /// It was written by a newer primacy.
    #[error("the journal has form {found}, this primacy knows {FORM}: use a newer one")]
    Form {
        /// What it says.
        found: u32,
    },
    /// It speaks of a node that is not configured.
    #[error(
        "the journal names the node {name:?} as {part}, which is not configured: add it, or move the journal away \
         if that node is gone for good"
    )]
    UnknownNode {
        /// Its name there.
        name: String,
        /// What it is there.
        part: &'static str,
    },
    /// A number or position in it makes no sense.
    #[error("the journal has {found:?} as {part}")]
    Value {
        /// What it is.
        part: &'static str,
        /// What stands there.
        found: String,
    },
    /// The thread that writes it is gone.
    #[error("the journal's writer has ended")]
    Writer,
}

/// The journal of one cluster.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The nodes' names by their ids.
    names: Mutex<Vec<Arc<str>>>,
    state: Mutex<Document>,
    /// Writes go one after another: a later document must not be replaced by an earlier one.
    store: Mutex<Option<Arc<tokio::sync::Mutex<Store>>>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Document {
    form: u32,
    record: Option<WrittenRecord>,
    #[serde(default)]
    history: VecDeque<Change>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenRecord {
    epoch: u64,
    promised: u64,
    system_id: String,
    primary: String,
    timeline: u32,
    fork: String,
    term_row: String,
    cohort: WrittenCohort,
    cohort_next: Option<WrittenCohort>,
    intent: Option<WrittenIntent>,
    paused: bool,
    #[serde(default)]
    displaced: Vec<String>,
    #[serde(default)]
    fenced: Vec<String>,
    #[serde(default)]
    twins: Vec<WrittenTwin>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenTwin {
    node: String,
    timeline: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenCohort {
    size: usize,
    standbys: usize,
    members: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenIntent {
    epoch: u64,
    phase: String,
    candidate: Option<String>,
    allow_data_loss: bool,
}

impl Journal {
    /// Opens the journal in `dir` and takes its lock, or one in memory. Returns what an earlier run wrote down.
    pub(crate) fn open(
        dir: Option<&Path>,
        names: Vec<Arc<str>>,
    ) -> Result<(Self, Option<Record>), JournalError> {
        let Some(dir) = dir else {
            let state = Mutex::new(Document { form: FORM, ..Document::default() });
            return Ok((Self { names: Mutex::new(names), state, store: Mutex::default() }, None));
        };
        let (store, document) = open(dir)?;
        let record = document.record.as_ref().map(|written| read(&names, written)).transpose()?;
        let store = Mutex::new(Some(Arc::new(tokio::sync::Mutex::new(store))));
        Ok((Self { names: Mutex::new(names), state: Mutex::new(document), store }, record))
    }

    /// Whether it survives a restart.
    pub(crate) fn is_durable(&self) -> bool {
        self.store().is_some()
    }

    /// Makes the record durable. When this returns `Ok` it survives a power cut.
    pub(crate) async fn write(&self, record: &Record) -> Result<(), JournalError> {
        let new = self.written(record);
        let before = self.state().record.replace(new);
        let saved = self.save().await;
        if saved.is_err() {
            // What could not be made durable does not count, and must not reach the disk with a later history entry.
            self.state().record = before;
        }
        saved
    }

    /// Appends to the history, forgetting the oldest.
    pub(crate) async fn remember(&self, change: Change) -> Result<(), JournalError> {
        {
            let mut state = self.state();
            while state.history.len() >= HISTORY_MAX {
                state.history.pop_front();
            }
            state.history.push_back(change);
        }
        self.save().await
    }

    /// The changes of primary, oldest first.
    pub(crate) fn history(&self) -> Vec<Change> {
        self.state().history.iter().cloned().collect()
    }

    /// Gives the directory's lock up: another process goes on with it. What is known stays known.
    pub(crate) fn release(&self) {
        *self.store() = None;
    }

    /// Takes the lock again where it was given up, and reads what was written meanwhile.
    pub(crate) fn reopen(&self, dir: Option<&Path>) -> Result<(), JournalError> {
        let Some(dir) = dir.filter(|_| !self.is_durable()) else { return Ok(()) };
        let (store, document) = open(dir)?;
        *self.state() = document;
        *self.store() = Some(Arc::new(tokio::sync::Mutex::new(store)));
        Ok(())
    }

    fn store(&self) -> MutexGuard<'_, Option<Arc<tokio::sync::Mutex<Store>>>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes were added. Ids that were given stay what they are.
    pub(crate) fn rename(&self, names: Vec<Arc<str>>) {
        *self.names() = names;
    }

    /// What was written last.
    pub(crate) fn record(&self) -> Result<Option<Record>, JournalError> {
        let written = self.state().record.clone();
        written.map(|written| read(&self.names(), &written)).transpose()
    }

    fn names(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, Document> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn save(&self) -> Result<(), JournalError> {
        let Some(store) = self.store().clone() else { return Ok(()) };
        let store = store.lock_owned().await;
        // Read after the lock was got: whoever writes last writes the newest.
        let document = self.state().clone();
        // Flushing a file may take long, and the control plane has one thread.
        let written = tokio::task::spawn_blocking(move || store.save(&document)).await;
        Ok(written.map_err(|_gone| JournalError::Writer)??)
    }

    fn name(&self, node: NodeId) -> String {
        self.names().get(node.index()).map_or_else(|| format!("#{}", node.0), ToString::to_string)
    }

    fn written(&self, record: &Record) -> WrittenRecord {
        let cohort = |cohort: &Cohort| WrittenCohort {
            size: cohort.size,
            standbys: cohort.standbys,
            members: cohort.members.iter().map(|node| self.name(*node)).collect(),
        };
        WrittenRecord {
            epoch: record.epoch.0,
            promised: record.promised.0,
            system_id: record.system_id.to_string(),
            primary: self.name(record.primary),
            timeline: record.timeline.0,
            fork: record.fork.to_string(),
            term_row: record.term_row.to_string(),
            cohort: cohort(&record.cohort),
            cohort_next: record.cohort_next.as_ref().map(cohort),
            intent: record.intent.as_ref().map(|intent| WrittenIntent {
                epoch: intent.epoch.0,
                phase: intent.phase.as_str().to_owned(),
                candidate: intent.candidate.map(|node| self.name(node)),
                allow_data_loss: intent.allow_data_loss,
            }),
            paused: record.paused,
            displaced: record.displaced.iter().map(|node| self.name(*node)).collect(),
            fenced: record.fenced.iter().map(|node| self.name(*node)).collect(),
            twins: record
                .twins
                .iter()
                .map(|twin| WrittenTwin { node: self.name(twin.node), timeline: twin.timeline.0 })
                .collect(),
        }
    }
}

fn open(dir: &Path) -> Result<(Store, Document), JournalError> {
    let store = Store::open(dir)?;
    let document = store.load::<Document>()?.unwrap_or(Document { form: FORM, ..Document::default() });
    if document.form != FORM {
        return Err(JournalError::Form { found: document.form });
    }
    Ok((store, document))
}

fn read(names: &[Arc<str>], written: &WrittenRecord) -> Result<Record, JournalError> {
    let node = |name: &str, part| {
        find(names, name).ok_or_else(|| JournalError::UnknownNode { name: name.into(), part })
    };
    // A member that is not configured any more counts still: it is only not ours to recruit.
    let cohort = |cohort: &WrittenCohort| Cohort {
        size: cohort.size,
        standbys: cohort.standbys,
        members: cohort.members.iter().filter_map(|name| find(names, name)).collect(),
    };
    let intent = written.intent.as_ref().map(|intent| {
        let phase = [IntentPhase::Switching, IntentPhase::Recruiting, IntentPhase::Promoting];
        let phase = phase.into_iter().find(|phase| phase.as_str() == intent.phase);
        Ok::<_, JournalError>(Intent {
            epoch: Epoch(intent.epoch),
            phase: phase.ok_or_else(|| value("the intent's phase", &intent.phase))?,
            candidate: intent.candidate.as_deref().map(|name| node(name, "the candidate")).transpose()?,
            allow_data_loss: intent.allow_data_loss,
        })
    });
    Ok(Record {
        epoch: Epoch(written.epoch),
        promised: Epoch(written.promised),
        system_id: SystemId(
            written.system_id.parse().map_err(|_bad| value("system identifier", &written.system_id))?,
        ),
        primary: node(&written.primary, "the primary")?,
        timeline: Timeline(written.timeline),
        fork: position("fork", &written.fork)?,
        term_row: position("the term row's position", &written.term_row)?,
        cohort: cohort(&written.cohort),
        cohort_next: written.cohort_next.as_ref().map(cohort),
        intent: intent.transpose()?,
        paused: written.paused,
        displaced: written.displaced.iter().filter_map(|name| find(names, name)).collect(),
        fenced: written.fenced.iter().filter_map(|name| find(names, name)).collect(),
        twins: written
            .twins
            .iter()
            .filter_map(|twin| {
                Some(Twin { node: find(names, &twin.node)?, timeline: Timeline(twin.timeline) })
            })
            .collect(),
    })
}

fn find(names: &[Arc<str>], name: &str) -> Option<NodeId> {
    let place = names.iter().position(|known| &**known == name)?;
    u16::try_from(place).ok().map(NodeId)
}

fn position(part: &'static str, text: &str) -> Result<Lsn, JournalError> {
    text.parse().map_err(|_bad| value(part, text))
}

fn value(part: &'static str, found: &str) -> JournalError {
    JournalError::Value { part, found: found.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn record() -> Record {
        Record {
            epoch: Epoch(4),
            promised: Epoch(6),
            system_id: SystemId(u64::MAX),
            primary: NodeId(1),
            timeline: Timeline(3),
            fork: Lsn(0x1_0000_0020),
            term_row: Lsn(0x1_0000_0100),
            cohort: Cohort { size: 3, standbys: 1, members: vec![NodeId(0), NodeId(1)] },
            cohort_next: None,
            intent: Some(Intent {
                epoch: Epoch(6),
                phase: IntentPhase::Promoting,
                candidate: Some(NodeId(0)),
                allow_data_loss: true,
            }),
            paused: true,
            displaced: vec![NodeId(1)],
            fenced: vec![NodeId(0)],
            twins: vec![Twin { node: NodeId(1), timeline: Timeline(2) }],
        }
    }

    fn change(epoch: u64) -> Change {
        Change { epoch, ..Change::default() }
    }

    #[tokio::test]
    async fn the_next_start_reads_what_this_one_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, nothing) = Journal::open(Some(dir.path()), names(&["a", "b"])).unwrap();
        assert_eq!(nothing, None);
        journal.write(&record()).await.unwrap();
        journal.remember(change(4)).await.unwrap();
        drop(journal);
        let (journal, restored) = Journal::open(Some(dir.path()), names(&["a", "b"])).unwrap();
        assert_eq!(restored, Some(record()));
        assert_eq!(journal.history(), [change(4)]);
    }

    #[tokio::test]
    async fn nodes_are_found_by_name_when_their_order_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(Some(dir.path()), names(&["a", "b"])).unwrap();
        journal.write(&record()).await.unwrap();
        drop(journal);
        let (_journal, restored) = Journal::open(Some(dir.path()), names(&["b", "new", "a"])).unwrap();
        let restored = restored.unwrap();
        assert_eq!(restored.primary, NodeId(0));
        assert_eq!(restored.intent.unwrap().candidate, Some(NodeId(2)));
    }

    #[tokio::test]
    async fn a_primary_that_is_not_configured_any_more_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(Some(dir.path()), names(&["a", "b"])).unwrap();
        journal.write(&record()).await.unwrap();
        drop(journal);
        let error = Journal::open(Some(dir.path()), names(&["a"])).unwrap_err();
        assert!(matches!(error, JournalError::UnknownNode { ref name, .. } if name == "b"), "{error}");
    }

    #[tokio::test]
    async fn what_is_given_up_is_another_process_s_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(Some(dir.path()), names(&["a", "b"])).unwrap();
        journal.write(&record()).await.unwrap();
        journal.release();
        let (other, restored) = Journal::open(Some(dir.path()), names(&["a", "b"])).unwrap();
        assert_eq!(restored, Some(record()));
        assert!(journal.reopen(Some(dir.path())).is_err(), "the other one has it");
        other.write(&Record { epoch: Epoch(5), ..record() }).await.unwrap();
        drop(other);
        journal.reopen(Some(dir.path())).unwrap();
        assert_eq!(journal.record().unwrap().unwrap().epoch, Epoch(5));
    }

    #[tokio::test]
    async fn the_history_is_bounded() {
        let (journal, _) = Journal::open(None, names(&["a"])).unwrap();
        for epoch in 0..HISTORY_MAX as u64 + 5 {
            journal.remember(change(epoch)).await.unwrap();
        }
        assert_eq!(journal.history().len(), HISTORY_MAX);
        assert_eq!(journal.history()[0].epoch, 5);
        assert!(!journal.is_durable());
    }
}
