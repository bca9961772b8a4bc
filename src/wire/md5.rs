//! The older way to sign in (manual 55.2.1, AuthenticationMD5Password). PostgreSQL keeps `md5` and a hash of password and
//! role; what goes over the wire is a hash of that and a salt. Who knows the kept hash can sign in with it.

use std::fmt::Write;

use ::md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What `pg_authid.rolpassword` begins with.
const PREFIX: &str = "md5";

fn hex(parts: &[&[u8]]) -> Zeroizing<String> {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 32));
    text.push_str(PREFIX);
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

/// Whether a text is a kept hash: `md5` and 32 hexadecimal digits.
pub fn is_stored(text: &str) -> bool {
    text.strip_prefix(PREFIX)
        .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The hash that is kept of a password.
pub fn stored(user: &str, password: &str) -> Zeroizing<String> {
    hex(&[password.as_bytes(), user.as_bytes()])
}

/// The answer to a challenge, from the kept hash.
pub fn answer(stored: &str, salt: [u8; 4]) -> Zeroizing<String> {
    hex(&[stored.strip_prefix(PREFIX).unwrap_or(stored).as_bytes(), &salt])
}

/// Checks an answer against the kept hash, in a time that does not depend on where they differ.
pub fn fits(stored: &str, salt: [u8; 4], given: &[u8]) -> bool {
    answer(stored, salt).as_bytes().ct_eq(given).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_postgresql() {
        // select 'md5' || md5('pencil' || 'user'); and the same over its digits and the salt.
        let kept = stored("user", "pencil");
        assert_eq!(*kept, "md520c46e3762c864548e296b33c3406aa9");
        assert!(is_stored(&kept) && !is_stored("pencil") && !is_stored("md5xyz"));
        assert_eq!(*answer(&kept, [1, 2, 3, 4]), "md54376eb6913b38f9aaff38dc7cf19ca76");
    }

    #[test]
    fn only_the_right_answer_fits() {
        let kept = stored("user", "pencil");
        let good = answer(&kept, [1, 2, 3, 4]);
        assert!(fits(&kept, [1, 2, 3, 4], good.as_bytes()));
        assert!(!fits(&kept, [1, 2, 3, 5], good.as_bytes()));
        assert!(!fits(&kept, [1, 2, 3, 4], &good.as_bytes()[1..]));
        assert!(!fits(&stored("user", "other"), [1, 2, 3, 4], good.as_bytes()));
    }
}
