//! Quoting: values in `postgresql.conf`, connection strings, and `postgresql.auto.conf` as data.

use std::fmt;

use crate::model::Secret;

/// A value as `postgresql.conf` reads it back: in single quotes, with quotes and backslashes escaped (manual, 20.1.2).
pub fn conf_value(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for letter in value.chars() {
        match letter {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// Where a standby or a backup connects to. `Display` and `Debug` leave the password out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// How the connection calls itself: the name that `synchronous_standby_names` compares.
    pub application_name: String,
}

impl ConnInfo {
    /// The keyword/value string (manual, 34.1.1.1) with the password in it: for `primary_conninfo` only.
    pub fn with_password(&self) -> Secret {
        Secret::new(format!("{self} password={}", keyword_value(self.password.reveal())))
    }
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "host={} port={} user={} application_name={} sslmode=disable gssencmode=disable connect_timeout=3",
            keyword_value(&self.host),
            self.port,
            keyword_value(&self.user),
            keyword_value(&self.application_name),
        )
    }
}

fn keyword_value(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for letter in value.chars() {
        if matches!(letter, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('\'');
    quoted
}

/// `postgresql.auto.conf` with the given settings in place of older ones of the same name; `None` only removes.
pub(super) fn edit_auto_conf(old: &str, changes: &[(&str, Option<&str>)]) -> String {
    let key_of = |line: &str| line.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut text = String::with_capacity(old.len() + 256);
    for line in old.lines().filter(|line| !changes.iter().any(|(key, _)| key_of(line) == *key)) {
        text.push_str(line);
        text.push('\n');
    }
    for (key, value) in changes {
        if let Some(value) = value {
            for part in [key, " = ", &conf_value(value), "\n"] {
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_twice_where_they_are_nested() {
        let info = ConnInfo {
            host: "127.0.0.1".into(),
            port: 5432,
            user: "re'pl".into(),
            password: Secret::new(r"a\b 'c'"),
            application_name: "node1".into(),
        };
        let text = info.with_password();
        assert!(text.reveal().contains(r"user='re\'pl'"), "{}", text.reveal());
        assert!(text.reveal().ends_with(r"password='a\\b \'c\''"), "{}", text.reveal());
        assert!(!info.to_string().contains("a\\b"));
        assert_eq!(conf_value(r"user='re\'pl'"), r"'user=''re\\''pl'''");
    }

    #[test]
    fn auto_conf_keeps_what_is_not_changed() {
        let old = "# Do not edit\nprimary_conninfo = 'host=a'\nwork_mem = '8MB'\n";
        let new = edit_auto_conf(old, &[("primary_conninfo", Some("host=b")), ("primary_slot_name", None)]);
        assert_eq!(new, "# Do not edit\nwork_mem = '8MB'\nprimary_conninfo = 'host=b'\n");
    }
}
