//! The text of a `pg_hba.conf` or a `pg_ident.conf` -> its lines, with PostgreSQL's quoting, lists and continued lines.

use super::{Mapping, Rule, RuleError, Written};

/// Longest file, in lines, and longest line, in words: more is a mistake.
const LINES_MAX: usize = 10_000;
const WORDS_MAX: usize = 1_000;

/// A line that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct HbaFileError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: LineError,
}

/// What may be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The rule.
    #[error("{0}")]
    Rule(#[from] RuleError),
    /// Fields are missing, or there are too many.
    #[error("not as many fields as such a line has")]
    Fields,
    /// A quote that is never closed.
    #[error("a quote is not closed")]
    Quote,
    /// `include` and its like.
    #[error("other files are not included: put their lines here")]
    Include,
    /// More lines or words than anybody writes.
    #[error("too long")]
    TooLong,
    /// A pattern in a map.
    #[error("patterns cannot be used in maps: name identities one by one")]
    Pattern,
}

/// A line of a `pg_ident.conf`.
pub type IdentLine = Mapping;

/// One word, and whether a part of it stood in quotes.
type Word = (String, bool);

/// A line's number, and its fields.
type Line = (usize, Vec<Vec<Word>>);

/// Reads every rule of a `pg_hba.conf`.
///
/// # Errors
/// The first line that cannot be applied exactly as it stands.
pub fn parse_hba(text: &str) -> Result<Vec<Rule>, HbaFileError> {
    let mut rules = Vec::new();
    for (line, fields) in lines(text)? {
        let rule = written(fields).and_then(|written| Ok(Rule::new(&written)?));
        rules.push(rule.map_err(|problem| HbaFileError { line, problem })?);
    }
    Ok(rules)
}

/// Reads every line of a `pg_ident.conf`.
///
/// # Errors
/// The first line that cannot be applied exactly as it stands.
pub fn parse_ident(text: &str) -> Result<Vec<IdentLine>, HbaFileError> {
    let mut maps = Vec::new();
    for (line, fields) in lines(text)? {
        let mapping = mapping(&fields).map_err(|problem| HbaFileError { line, problem })?;
        maps.push(mapping);
    }
    Ok(maps)
}

fn mapping(fields: &[Vec<Word>]) -> Result<Mapping, LineError> {
    let [map, identity, user] = fields else { return Err(LineError::Fields) };
    let ([(map, _)], [(identity, quoted)], [(user, user_quoted)]) = (&map[..], &identity[..], &user[..])
    else {
        return Err(LineError::Fields);
    };
    let pattern = |text: &str, quoted: bool| !quoted && text.starts_with(['/', '+']);
    if pattern(identity, *quoted) || pattern(user, *user_quoted) {
        return Err(LineError::Pattern);
    }
    Ok(Mapping { map: map.clone(), identity: identity.clone(), user: user.clone() })
}

/// The fields of a `pg_hba.conf` line by their meaning.
fn written(fields: Vec<Vec<Word>>) -> Result<Written, LineError> {
    let mut fields = fields.into_iter();
    let kind = single(fields.next())?;
    if kind.starts_with("include") {
        return Err(LineError::Include);
    }
    let (databases, users) =
        (fields.next().ok_or(LineError::Fields)?, fields.next().ok_or(LineError::Fields)?);
    let mut rest: Vec<Vec<Word>> = fields.collect();
    let (mut addresses, mut mask) = (Vec::new(), None);
    if kind != "local" {
        if rest.is_empty() {
            return Err(LineError::Fields);
        }
        let address = single(Some(rest.remove(0)))?;
        // A mask in a field of its own: what follows an address without a slash and is an address itself.
        let next = rest.first().and_then(|field| field.first()).map(|(text, _)| text.clone());
        if !address.contains('/')
            && next.as_ref().is_some_and(|next| next.parse::<std::net::IpAddr>().is_ok())
        {
            mask = next;
            rest.remove(0);
        }
        addresses.push(address);
    }
    let mut rest = rest.into_iter();
    let method = single(rest.next())?;
    let mut options = Vec::new();
    for field in rest {
        let option = single(Some(field))?;
        let (name, value) = option.split_once('=').ok_or(LineError::Fields)?;
        options.push((name.to_owned(), value.to_owned()));
    }
    Ok(Written { kind, databases, users, addresses, mask, method, options })
}

fn single(field: Option<Vec<Word>>) -> Result<String, LineError> {
    let mut words = field.unwrap_or_default().into_iter();
    match (words.next(), words.next()) {
        (Some((word, _)), None) => Ok(word),
        _ => Err(LineError::Fields),
    }
}

/// Lines that say something: their numbers, and their fields, each a list of words between commas.
fn lines(text: &str) -> Result<Vec<Line>, HbaFileError> {
    let mut found = Vec::new();
    let mut numbered = text.lines().enumerate();
    while let Some((index, line)) = numbered.next() {
        let error = |problem| HbaFileError { line: index + 1, problem };
        if index >= LINES_MAX {
            return Err(error(LineError::TooLong));
        }
        let mut whole = line.trim_end_matches('\r').to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            let Some((_, next)) = numbered.next() else { break };
            whole.push_str(next.trim_end_matches('\r'));
        }
        let fields = fields(&whole).map_err(error)?;
        if !fields.is_empty() {
            found.push((index + 1, fields));
        }
    }
    Ok(found)
}

/// The fields of one line: words apart by blanks; a comma joins words to one field.
fn fields(line: &str) -> Result<Vec<Vec<Word>>, LineError> {
    let (mut fields, mut joins, mut count): (Vec<Vec<Word>>, bool, usize) = (Vec::new(), false, 0);
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\u{b}', '\u{c}']);
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(fields);
        }
        if let Some(after) = rest.strip_prefix(',') {
            (joins, rest) = (true, after);
            continue;
        }
        let (word, after) = word(rest)?;
        count += 1;
        if count > WORDS_MAX {
            return Err(LineError::TooLong);
        }
        match fields.last_mut().filter(|_| joins) {
            Some(field) => field.push(word),
            None => fields.push(vec![word]),
        }
        (joins, rest) = (false, after);
    }
}

/// A word at the beginning, and what follows. Quotes may stand anywhere in it; doubled ones mean themselves.
fn word(text: &str) -> Result<(Word, &str), LineError> {
    let (mut word, mut inside, mut quoted) = (String::new(), false, false);
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' if inside && letters.peek().is_some_and(|(_, next)| *next == '"') => {
                letters.next();
                word.push('"');
            }
            '"' => (inside, quoted) = (!inside, true),
            ' ' | '\t' | '\u{b}' | '\u{c}' | ',' | '#' if !inside => {
                return Ok(((word, quoted), text.get(at..).unwrap_or_default()));
            }
            letter => word.push(letter),
        }
    }
    if inside { Err(LineError::Quote) } else { Ok(((word, quoted), "")) }
}
