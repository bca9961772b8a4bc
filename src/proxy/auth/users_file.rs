//! A file of roles and passwords in the format of PgBouncer's `userlist.txt`: lines `"role" "password or verifier"`.
//! Quotes inside are doubled, a line that begins with `;` or `#` is a comment, what follows the second text is ignored.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Stored;

/// Why a users file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersFileError {
    /// It cannot be read, or is not UTF-8.
    #[error("reading failed")]
    Read(#[source] io::Error),
    /// A line is not `"role" "password"`. The line itself is not shown, as it may hold a password.
    #[error("line {line} is not of the form \"role\" \"password or verifier\"")]
    Line {
        /// Its number, from 1.
        line: usize,
    },
}

/// The roles of the file.
#[derive(Debug)]
pub(super) struct UsersFile {
    roles: HashMap<String, Arc<Stored>>,
}

impl UsersFile {
    pub(super) fn read(path: &Path) -> Result<Self, UsersFileError> {
        let text = std::fs::read_to_string(path).map_err(UsersFileError::Read)?;
        Self::parse(&Zeroizing::new(text))
    }

    fn parse(text: &str) -> Result<Self, UsersFileError> {
        let mut roles = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            let (role, password) = pair(line).ok_or(UsersFileError::Line { line: index + 1 })?;
            // An empty password would let everybody in; here it means that nobody can sign in with one.
            if !password.is_empty() {
                roles.insert(role, Arc::new(Stored::from_text(&password)));
            }
        }
        Ok(Self { roles })
    }

    pub(super) fn find(&self, user: &str) -> Option<Arc<Stored>> {
        self.roles.get(user).cloned()
    }
}

fn pair(line: &str) -> Option<(String, Zeroizing<String>)> {
    let (role, rest) = quoted(line)?;
    let (password, _) = quoted(rest.trim_start())?;
    Some((role, Zeroizing::new(password)))
}

/// A quoted text at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        value.push_str(part);
        match after.strip_prefix('"') {
            Some(after_doubled) => {
                value.push('"');
                rest = after_doubled;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(file: &UsersFile, user: &str) -> &'static str {
        match file.find(user).as_deref() {
            None => "none",
            Some(Stored::Scram(_)) => "scram",
            Some(Stored::Md5(_)) => "md5",
            Some(Stored::Password { .. }) => "password",
        }
    }

    #[test]
    fn the_three_kinds_are_told_by_their_beginning() {
        let file = UsersFile::parse(
            "; a comment\n\n\"plain\" \"secret\"\n  \"hash\" \"md50123456789abcdef0123456789abcdef\" ignored\n\
             \"scram\" \"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\"\n\"none\" \"\"\n",
        )
        .unwrap();
        for (user, expected) in
            [("plain", "password"), ("hash", "md5"), ("scram", "scram"), ("none", "none"), ("other", "none")]
        {
            assert_eq!(kind(&file, user), expected, "{user}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for bad in ["plain secret", "\"a\" secret", "\"a\" \"secret", "\"a", "\"a\""] {
            let error = UsersFile::parse(&format!("\"x\" \"y\"\n{bad}\n")).unwrap_err();
            assert!(matches!(error, UsersFileError::Line { line: 2 }), "{bad}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    proptest! {
        #[test]
        fn any_role_and_password_can_be_written(role in "\\PC{1,12}", password in "\\PC{1,12}") {
            let double = |text: &str| text.replace('"', "\"\"");
            let file = UsersFile::parse(&format!("\"{}\" \"{}\"", double(&role), double(&password))).unwrap();
            let found = file.find(&role);
            let Some(Stored::Password { password: kept, .. }) = found.as_deref() else { panic!("not kept") };
            prop_assert_eq!(kept.reveal(), password);
        }

        #[test]
        fn any_text_gives_an_answer(text in "[\"a \n;]{0,40}") {
            drop(UsersFile::parse(&text));
        }
    }
}
