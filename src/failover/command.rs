//! What operators ask for.

use std::time::Instant;

use super::attempt::{Attempt, enough, recruitable};
use super::candidate::Wish;
use super::care;
use super::effect::Action;
use super::history::{Cause, Step};
use super::input::{Command, CommandId};
use super::lock::Locking;
use super::rule::RuleId;
use super::state::State;
use super::status::Refusal;
use super::switch::{Switching, check};
use super::world::World;
use crate::model::NodeId;

/// Carries a command out, or answers why not.
pub(super) fn obey(state: State, world: &mut World, now: Instant, id: CommandId, command: &Command) -> State {
    world.decided(RuleId::C1a);
    match *command {
        Command::Pause | Command::Resume => {
            let pause = *command == Command::Pause;
            world.paused = pause;
            world.save_for(
                now,
                id,
                if pause { "automatic failover is paused" } else { "automatic failover is on" },
            );
            state
        }
        Command::Rejoin(node) => {
            let ready = matches!(state, State::Steady(_) | State::Establishing(_));
            let result = if ready { care::rejoin(world, now, node, id) } else { Err(busy(&state, world)) };
            if let Err(why) = result {
                answer(world, id, Err(why));
            }
            state
        }
        Command::Switchover { to, dry_run } => switchover(state, world, now, Ask { id, to, dry_run }),
        Command::Failover { to, allow_data_loss } => {
            let wish = Wish { target: to, allow_data_loss };
            match failover(&state, world, wish) {
                Ok(()) => begin_failover(state, world, now, id, wish),
                Err(why) => {
                    answer(world, id, Err(why));
                    state
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Ask {
    id: CommandId,
    to: Option<NodeId>,
    dry_run: bool,
}

fn switchover(state: State, world: &mut World, now: Instant, ask: Ask) -> State {
    let checked =
        if matches!(state, State::Steady(_)) { check(world, ask.to) } else { Err(busy(&state, world)) };
    world.decided(RuleId::S1a);
    match checked {
        Ok(target) if ask.dry_run => {
            let name = world.node(target).map_or("?", |node| &node.member.name);
            let words = format!("{name} could take over: all checks passed, nothing was changed");
            answer(world, ask.id, Ok(words));
            state
        }
        Ok(target) => Switching::begin(world, now, target, ask.id),
        Err(why) => {
            answer(world, ask.id, Err(why));
            state
        }
    }
}

fn failover(state: &State, world: &World, wish: Wish) -> Result<(), Refusal> {
    if !matches!(state, State::Steady(_) | State::Suspect(_) | State::ReadOnly(_)) {
        return Err(busy(state, world));
    }
    if let Some(target) = wish.target {
        world.node(target).ok_or(Refusal::UnknownNode)?;
        if world.primary() == Some(target) {
            return Err(Refusal::AlreadyPrimary);
        }
    }
    let recruited = recruitable(world);
    enough(world, wish, &recruited)?;
    match wish.target {
        Some(target) if !recruited.contains(&target) => {
            Err(Refusal::NoCandidate { why: "the node asked for is not a standby that answers".into() })
        }
        _ => Ok(()),
    }
}

fn begin_failover(state: State, world: &mut World, now: Instant, id: CommandId, wish: Wish) -> State {
    let (began, carried) = match state {
        State::Suspect(suspect) => (suspect.since(), None),
        State::ReadOnly(mut read_only) => (read_only.since(), read_only.take_carried()),
        _ => (now, None),
    };
    let rule = if wish.allow_data_loss { RuleId::R3e } else { RuleId::C1a };
    let from = world.primary().unwrap_or(NodeId(0));
    let mut attempt = carried.unwrap_or_else(|| Attempt::new(from, Cause::Commanded, rule, began, now));
    attempt.cause = Cause::Commanded;
    attempt.rule = rule;
    attempt.command = Some(id);
    attempt.wish = wish;
    attempt.excluded.clear();
    attempt.mark(Step::Held, now);
    Locking::begin(world, now, attempt)
}

fn busy(state: &State, world: &World) -> Refusal {
    Refusal::Busy { phase: state.phase(world) }
}

fn answer(world: &mut World, command: CommandId, result: Result<String, Refusal>) {
    world.tell(RuleId::C1a, Action::Answer { command, result });
}
