//! How many connections one address, one role and one database may have: counted over all workers, given back when a
//! connection ends, whatever ends it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Connections from an address, signed in or not.
    Address(IpAddr),
    /// Clients of a role.
    User(String),
    /// Clients of a database.
    Database(String),
}

impl Subject {
    /// An address as it is counted: whoever has one IPv6 address has 2^64 of them.
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(six) => IpAddr::V6((u128::from(six) & !u128::from(u64::MAX)).into()),
            four @ IpAddr::V4(_) => four,
        })
    }
}

/// The counts. Only those that are limited are kept.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<HashMap<Subject, u32>>);

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    quotas: Arc<Quotas>,
    subject: Subject,
}

impl Quotas {
    /// Takes a place. `Err`: there are `max` already. No limit (0): nothing is counted.
    pub fn take(self: &Arc<Self>, subject: Subject, max: u32) -> Result<Option<Place>, u32> {
        if max == 0 {
            return Ok(None);
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(subject.clone()).or_default();
        if *count >= max {
            return Err(max);
        }
        *count += 1;
        Ok(Some(Place { quotas: Arc::clone(self), subject }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.quotas.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_each_for_itself_and_come_back() {
        let quotas = Arc::new(Quotas::default());
        let user = |name: &str| Subject::User(name.to_owned());
        let first = quotas.take(user("a"), 2).unwrap().unwrap();
        let second = quotas.take(user("a"), 2).unwrap().unwrap();
        assert_eq!(quotas.take(user("a"), 2).unwrap_err(), 2);
        assert!(quotas.take(user("b"), 2).unwrap().is_some());
        assert!(quotas.take(Subject::Database("a".to_owned()), 1).unwrap().is_some());
        assert!(quotas.take(user("a"), 0).unwrap().is_none(), "no limit");
        drop(first);
        assert!(quotas.take(user("a"), 2).is_ok());
        drop(second);
        assert!(quotas.0.lock().unwrap().is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let of = |text: &str| Subject::of_address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
