//! The failover core: decides who is the primary, and what has to be done so that this stays true.
//!
//! In: what the probers saw, what became of earlier effects, what an operator asked for, and the time.
//! Out: effects, numbered and bound to an epoch, each with the rule that asked for it. The core performs no
//! input or output, never sleeps and never reads a clock: `Core::deadline` says when it wants to be called again.
//!
//! Safety of acknowledged writes rests on three things only: commits are acknowledged by `k` standbys, enough
//! standbys are seen to have *stopped receiving* before positions are compared, and the most advanced of
//! those is promoted. No lease and no clock is needed for it; timers only decide how soon something is tried.

pub mod effect;
pub mod history;
pub mod input;
pub mod journal;
pub mod machine;
pub mod observation;
pub mod rule;
pub mod settings;
pub mod status;

// States.
mod discover;
mod establish;
mod lock;
mod promote;
mod read_only;
mod record;
mod recruit;
mod resolve;
mod revive;
mod state;
mod steady;
mod suspect;
mod switch;

// What the states share.
mod attempt;
mod candidate;
mod care;
mod claims;
mod cohort;
mod command;
mod evidence;
mod nodes;
mod quorum;
mod twins;
mod upkeep;
mod view;
mod world;

pub use effect::{Action, Effect, EffectId, FollowerName};
pub use history::{Cause, HistoryEntry, Lost, Step, StepTime};
pub use input::{Command, CommandId, Input, Outcome, Recruit};
pub use journal::{Cohort, Intent, IntentPhase, Record, Twin};
pub use machine::Core;
pub use observation::{Facts, Observation, Reach, Receiver, Sender, SyncState};
pub use rule::{RULES, Rule, RuleId};
pub use settings::{Degrade, Durability, Member, Settings};
pub use status::{Alarm, Phase, Refusal, Standing, Status};
