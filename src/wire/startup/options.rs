//! The startup parameter `options`: command-line switches of a server process. Only the ones that set a setting are
//! taken (`-c name=value`, `--name=value`), as only these can be carried along from server to server.

/// A switch that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Neither `-c name=value` nor `--name=value`.
    #[error("switch {switch:?} is not supported, only -c name=value and --name=value are")]
    Switch {
        /// What stood there.
        switch: String,
    },
    /// A setting without a value.
    #[error("{setting:?} has no value")]
    NoValue {
        /// What stood there.
        setting: String,
    },
}

/// Reads `options` as settings, in order.
pub fn options(text: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut settings = Vec::new();
    let mut words = words(text).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(OptionsError::NoValue { setting: word })?
        } else if let Some(setting) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            setting.to_owned()
        } else {
            return Err(OptionsError::Switch { switch: word });
        };
        match setting.split_once('=') {
            // As in the server, a dash in the name stands for an underscore.
            Some((name, value)) if !name.is_empty() => {
                settings.push((name.replace('-', "_"), value.to_owned()));
            }
            _ => return Err(OptionsError::NoValue { setting }),
        }
    }
    Ok(settings)
}

/// Splits at white space; a backslash takes the next character as it is.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char.is_ascii_whitespace() || char == '\x0b' {
            words.extend(word.take());
        } else {
            // A lone backslash at the end stands for nothing.
            let literal = if char == '\\' { chars.next() } else { Some(char) };
            word.get_or_insert_default().extend(literal);
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        options(text).unwrap()
    }

    #[test]
    fn the_three_spellings_of_a_setting() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read("-c geqo=off"), [pair("geqo", "off")]);
        assert_eq!(read("-cgeqo=off"), [pair("geqo", "off")]);
        assert_eq!(read("--work-mem=64MB  --geqo=off"), [pair("work_mem", "64MB"), pair("geqo", "off")]);
        assert_eq!(read("  "), []);
    }

    #[test]
    fn a_backslash_takes_the_next_character_as_it_is() {
        assert_eq!(read(r"-c search_path=a,\ b\\c"), [("search_path".into(), r"a, b\c".into())]);
    }

    #[test]
    fn other_switches_are_refused_by_name() {
        assert_eq!(options("-d 5"), Err(OptionsError::Switch { switch: "-d".into() }));
        assert_eq!(options("-c"), Err(OptionsError::NoValue { setting: "-c".into() }));
        assert_eq!(options("-c =x"), Err(OptionsError::NoValue { setting: "=x".into() }));
        assert_eq!(options("--geqo"), Err(OptionsError::NoValue { setting: "geqo".into() }));
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in ".{0,60}") {
            drop(options(&text));
        }

        #[test]
        fn an_escaped_value_comes_back(value in "[ -~\t]{0,30}") {
            let escaped: String = value.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert_eq!(read(&format!("-c x={escaped}")), [("x".to_owned(), value)]);
        }
    }
}
