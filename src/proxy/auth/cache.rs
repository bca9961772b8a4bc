//! Remembers answers about roles. One question per role at a time; a bounded number of roles; what is too old is asked
//! again, but goes on serving while no server answers.
//!
//! A proof that was made with a new password cannot be checked again once it has failed against an old verifier: SCRAM's
//! challenge names the verifier's salt. So an answer is looked at again *before* the challenge, where it is older than
//! `recheck`; this has a short deadline of its own, because what is remembered serves as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Stored;
use crate::clock;

/// Roles that are remembered at one time.
const ROLES_MAX: usize = 10_000;

/// "There is no such role" is believed this long: short, because roles are created and used at once.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);

/// An answer younger than this is not asked again because a sign-in failed: that would let anybody who tries wrong
/// passwords put load on the servers.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// While no server answers, an old answer serves this long before the servers are tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A sign-in waits at most so long for a newer answer while there is one that may still be used.
const RECHECK_PATIENCE: Duration = Duration::from_millis(250);

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    lifetime: Duration,
    recheck: Duration,
    roles: Mutex<HashMap<String, Arc<Role>>>,
}

/// What is known of one role.
#[derive(Debug, Default)]
struct Role {
    answer: Mutex<Option<Answer>>,
    /// Held by who asks; the others wait and use the answer. Shared between runtimes, which tokio's mutex allows.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Answer {
    stored: Option<Arc<Stored>>,
    asked_at: Instant,
    /// Used without a question until then.
    fresh_until: Instant,
    /// Not used without an answer from a server after that, unless no server answers.
    stale_from: Instant,
}

/// A poisoned lock is taken all the same: every change under it is a single assignment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Role {
    fn answer(&self) -> Option<Answer> {
        locked(&self.answer).clone()
    }

    fn fresh(&self, now: Instant) -> Option<Answer> {
        self.answer().filter(|answer| now < answer.fresh_until)
    }
}

impl Cache {
    pub(super) fn new(lifetime: Duration, recheck: Duration) -> Self {
        Self { lifetime, recheck, roles: Mutex::default() }
    }

    /// What is remembered, else what `ask` says; `None` where there is no such role. Cancellation-safe: who waits asks in
    /// its turn.
    pub(super) async fn lookup<E>(
        &self,
        user: &str,
        ask: impl AsyncFnOnce() -> Result<Option<Stored>, E>,
    ) -> Result<Option<Arc<Stored>>, E> {
        let role = self.role(user);
        if let Some(answer) = role.fresh(clock::now()) {
            return Ok(answer.stored);
        }
        let _asking = role.asking.lock().await;
        if let Some(answer) = role.fresh(clock::now()) {
            return Ok(answer.stored);
        }
        let asked_at = clock::now();
        let known = role.answer();
        let usable = known.as_ref().filter(|answer| answer.stored.is_some() && asked_at < answer.stale_from);
        let result = if let Some(old) = usable {
            match timeout(RECHECK_PATIENCE, ask()).await {
                Ok(result) => result,
                Err(_elapsed) => {
                    let old = Answer { fresh_until: clock::now() + RETRY_AFTER, ..old.clone() };
                    *locked(&role.answer) = Some(old.clone());
                    return Ok(old.stored);
                }
            }
        } else {
            ask().await
        };
        let now = clock::now();
        let answer = match (result, known) {
            (Ok(stored), _) => {
                let lifetime = if stored.is_some() { self.lifetime } else { self.lifetime.min(UNKNOWN_FOR) };
                let fresh_until = now + lifetime.min(self.recheck);
                Answer { stored: stored.map(Arc::new), asked_at, fresh_until, stale_from: now + lifetime }
            }
            (Err(_), Some(old)) if old.stored.is_some() => Answer { fresh_until: now + RETRY_AFTER, ..old },
            (Err(error), _) => return Err(error),
        };
        *locked(&role.answer) = Some(answer.clone());
        Ok(answer.stored)
    }

    /// Has the role asked again at the next look-up, unless that was just done.
    pub(super) fn distrust(&self, user: &str) {
        let role = locked(&self.roles).get(user).cloned();
        if let Some(role) = role {
            let now = clock::now();
            if let Some(answer) = &mut *locked(&role.answer)
                && now.saturating_duration_since(answer.asked_at) >= TRUSTED_FOR
            {
                (answer.fresh_until, answer.stale_from) = (now, now);
            }
        }
    }

    fn role(&self, user: &str) -> Arc<Role> {
        let mut roles = locked(&self.roles);
        if let Some(role) = roles.get(user) {
            return Arc::clone(role);
        }
        if roles.len() >= ROLES_MAX {
            make_room(&mut roles);
        }
        Arc::clone(roles.entry(user.to_owned()).or_default())
    }
}

/// Forgets the roles that do not exist, and where that is not enough some that do.
fn make_room(roles: &mut HashMap<String, Arc<Role>>) {
    roles.retain(|_, role| role.answer().is_some_and(|answer| answer.stored.is_some()));
    let surplus = (roles.len() + ROLES_MAX / 10).saturating_sub(ROLES_MAX);
    let victims: Vec<_> = roles.keys().take(surplus).cloned().collect();
    for victim in victims {
        roles.remove(&victim);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::Secret;

    const HOUR: Duration = Duration::from_secs(3600);

    fn stored() -> Stored {
        Stored::Md5(Secret::new("md5"))
    }

    /// Looks `user` up; the servers' answer is `answer`. Gives what was found and whether they were asked.
    async fn lookup(
        cache: &Cache,
        user: &str,
        answer: Result<Option<Stored>, &'static str>,
    ) -> (Result<bool, &'static str>, bool) {
        let asked = Cell::new(false);
        let found = cache
            .lookup(user, async || {
                asked.set(true);
                answer
            })
            .await;
        (found.map(|stored| stored.is_some()), asked.get())
    }

    #[tokio::test]
    async fn an_answer_is_remembered_for_its_lifetime() {
        let cache = Cache::new(HOUR, HOUR);
        assert_eq!(lookup(&cache, "a", Ok(Some(stored()))).await, (Ok(true), true));
        assert_eq!(lookup(&cache, "a", Ok(None)).await, (Ok(true), false));
        assert_eq!(lookup(&cache, "b", Ok(None)).await, (Ok(false), true));
        assert_eq!(lookup(&cache, "b", Ok(Some(stored()))).await, (Ok(false), false));
        let cache = Cache::new(Duration::ZERO, HOUR);
        assert_eq!(lookup(&cache, "a", Ok(Some(stored()))).await, (Ok(true), true));
        assert_eq!(lookup(&cache, "a", Ok(None)).await, (Ok(false), true));
    }

    #[tokio::test]
    async fn an_old_answer_serves_while_no_server_answers() {
        let cache = Cache::new(Duration::ZERO, HOUR);
        assert_eq!(lookup(&cache, "a", Err("down")).await, (Err("down"), true));
        assert_eq!(lookup(&cache, "a", Ok(Some(stored()))).await, (Ok(true), true));
        assert_eq!(lookup(&cache, "a", Err("down")).await, (Ok(true), true));
        assert_eq!(lookup(&cache, "a", Err("down")).await, (Ok(true), false), "not asked again at once");
    }

    #[tokio::test]
    async fn a_distrusted_answer_is_asked_again_unless_it_is_new() {
        let cache = Cache::new(HOUR, HOUR);
        assert_eq!(lookup(&cache, "a", Ok(Some(stored()))).await, (Ok(true), true));
        cache.distrust("a");
        assert_eq!(lookup(&cache, "a", Ok(None)).await, (Ok(true), false));
        let role = cache.role("a");
        let earlier = clock::now().checked_sub(TRUSTED_FOR).unwrap();
        locked(&role.answer).as_mut().unwrap().asked_at = earlier;
        cache.distrust("a");
        assert_eq!(lookup(&cache, "a", Ok(None)).await, (Ok(false), true));
        cache.distrust("nobody");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_answer_is_asked_for_and_not_waited_for_long() {
        let cache = Cache::new(HOUR, Duration::ZERO);
        assert_eq!(lookup(&cache, "a", Ok(Some(stored()))).await, (Ok(true), true));
        assert_eq!(lookup(&cache, "a", Ok(None)).await, (Ok(false), true), "the change is seen at once");
        assert_eq!(lookup(&cache, "a", Ok(Some(stored()))).await, (Ok(true), true));
        let silent = cache.lookup("a", async || std::future::pending::<Result<Option<Stored>, ()>>().await);
        let waited = tokio::time::timeout(Duration::from_secs(5), silent).await;
        assert!(matches!(waited, Ok(Ok(Some(_)))), "the old answer serves");
        assert_eq!(lookup(&cache, "a", Ok(None)).await, (Ok(true), false), "and is not asked again at once");
    }

    #[tokio::test]
    async fn one_question_serves_all_who_wait() {
        let cache = Cache::new(HOUR, HOUR);
        let asked = Cell::new(0);
        let ask = async || {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            Ok::<_, ()>(Some(stored()))
        };
        let (a, b, c) = tokio::join!(cache.lookup("a", ask), cache.lookup("a", ask), cache.lookup("a", ask));
        assert!([a, b, c].iter().all(|found| matches!(found, Ok(Some(_)))));
        assert_eq!(asked.get(), 1);
    }

    #[tokio::test]
    async fn the_number_of_roles_is_bounded() {
        let cache = Cache::new(HOUR, HOUR);
        assert_eq!(lookup(&cache, "known", Ok(Some(stored()))).await, (Ok(true), true));
        for number in 0..ROLES_MAX + 5 {
            assert_eq!(lookup(&cache, &number.to_string(), Ok(None)).await, (Ok(false), true));
        }
        assert!(locked(&cache.roles).len() <= ROLES_MAX);
        assert_eq!(lookup(&cache, "known", Ok(None)).await, (Ok(true), false), "who exists is kept");
        let mut full: HashMap<_, _> = (0..ROLES_MAX).map(|n| (n.to_string(), cache.role("known"))).collect();
        make_room(&mut full);
        assert_eq!(full.len(), ROLES_MAX - ROLES_MAX / 10);
    }
}
