//! Rust text -> code and string literals apart: comments are dropped, and what a string says is no import.

/// A file's text, taken apart.
pub(crate) struct Code {
    /// The code with the insides of strings and all comments replaced by blanks; lines stay lines. Ends where the file's
    /// test module begins.
    pub(crate) code: String,
    /// The insides of string literals, with the number of the line that each begins on.
    pub(crate) strings: Vec<(usize, String)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Code,
    Line,
    Block(usize),
    Text,
    Raw(usize),
}

impl Code {
    pub(crate) fn of(text: &str) -> Self {
        let text = without_tests(text);
        let letters: Vec<char> = text.chars().collect();
        let mut code = String::new();
        let mut strings: Vec<(usize, String)> = Vec::new();
        let mut inside = Inside::Code;
        let (mut at, mut line) = (0, 1);
        while let Some(&letter) = letters.get(at) {
            let (next, step) = advance(inside, &letters[at..]);
            if inside == Inside::Code && matches!(next, Inside::Text | Inside::Raw(_)) {
                strings.push((line, String::new()));
            }
            let stays = inside == next;
            for letter in &letters[at..(at + step).min(letters.len())] {
                line += usize::from(*letter == '\n');
                let shown = if inside == Inside::Code && stays || *letter == '\n' { *letter } else { ' ' };
                code.push(shown);
                if stays && matches!(inside, Inside::Text | Inside::Raw(_)) {
                    strings.last_mut().expect("begun").1.push(*letter);
                }
            }
            debug_assert!(step > 0, "no progress at {letter:?}");
            (inside, at) = (next, at + step);
        }
        Self { code, strings }
    }
}

/// From the state and what comes: the next state, and how many letters that takes.
fn advance(inside: Inside, rest: &[char]) -> (Inside, usize) {
    let begins = |text: &str| rest.iter().copied().take(text.len()).eq(text.chars());
    match inside {
        Inside::Code if begins("//") => (Inside::Line, 2),
        Inside::Code if begins("/*") => (Inside::Block(1), 2),
        Inside::Code if begins("\"") => (Inside::Text, 1),
        Inside::Code if begins("r\"") || begins("r#") => {
            let hashes = rest.iter().skip(1).take_while(|letter| **letter == '#').count();
            // `r#type` is a name, not a string.
            if rest.get(1 + hashes) == Some(&'"') { (Inside::Raw(hashes), 2 + hashes) } else { (inside, 1) }
        }
        // A character, not a lifetime: '"' and '\'' must not begin a string.
        Inside::Code if begins("'\\") => {
            let end = rest.iter().skip(3).position(|letter| *letter == '\'').unwrap_or(0);
            (inside, end + 4)
        }
        Inside::Code if begins("'") && rest.get(2) == Some(&'\'') => (inside, 3),
        // A name that ends in r is not a prefix of a string.
        Inside::Code if rest[0].is_alphanumeric() && rest[0] != 'r' => {
            (inside, rest.iter().take_while(|letter| letter.is_alphanumeric() || **letter == '_').count())
        }
        Inside::Line if begins("\n") => (Inside::Code, 1),
        Inside::Block(depth) if begins("/*") => (Inside::Block(depth + 1), 2),
        Inside::Block(1) if begins("*/") => (Inside::Code, 2),
        Inside::Block(depth) if begins("*/") => (Inside::Block(depth - 1), 2),
        Inside::Text if begins("\\") => (inside, 2),
        Inside::Text if begins("\"") => (Inside::Code, 1),
        Inside::Raw(hashes)
            if begins("\"") && rest.iter().skip(1).take(hashes).eq(vec!['#'; hashes].iter()) =>
        {
            (Inside::Code, 1 + hashes)
        }
        other => (other, 1),
    }
}

/// The text up to the test module at its end.
pub(crate) fn without_tests(text: &str) -> &str {
    let begins = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at).next();
    begins.map_or(text, |at| &text[..at])
}

#[test]
fn strings_and_comments_are_no_code() {
    let code = Code::of(
        "use a; // crate::b\nlet x = \"crate::c \\\" d\"; /* e /* f */ g */ h('\"', 'x', r#\"i\"j\"#);\n",
    );
    let words: Vec<&str> = code.code.split_whitespace().collect();
    assert_eq!(words.join(" "), "use a; let x = ; h('\"', 'x', );");
    assert_eq!(code.strings, [(2, "crate::c \\\" d".to_owned()), (2, "i\"j".to_owned())]);
    assert_eq!(code.code.lines().count(), 2);
}

#[test]
fn lifetimes_and_names_that_end_in_r_begin_no_string() {
    let code = Code::of("fn f<'a>(x: &'a str) { for r in y { over(\"z\") } }");
    assert!(code.code.contains("fn f<'a>(x: &'a str) { for r in y { over("), "{}", code.code);
    assert_eq!(code.strings.len(), 1);
}

#[test]
fn the_test_module_is_left_out() {
    let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::z;\n}\n";
    assert!(!Code::of(text).code.contains("crate::z"));
}
