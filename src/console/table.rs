//! A table that a command answers with: columns with a name and a type, rows of values; and how both go on the wire, as
//! text or binary.

use crate::wire::encode;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Int4,
    Int8,
    Numeric,
}

impl Type {
    /// OID and length, from `pg_type`.
    fn facts(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int4 => (23, 4),
            Self::Int8 => (20, 8),
            Self::Numeric => (1700, -1),
        }
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Text(String),
    Number(u64),
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: Vec<(String, Type)>,
    pub(super) rows: Vec<Vec<Value>>,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Number(yes.into())
    }
}

impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of anything that is a value.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::console::table::Value::from($value)),*] };
}
pub(super) use row;

impl Table {
    /// An empty one. `columns` is a list of names, each with its type behind a colon (text without one):
    /// `database port:int4 value:numeric`.
    pub(super) fn new(columns: &str) -> Self {
        let column = |written: &str| {
            let (name, kind) = written.split_once(':').unwrap_or((written, "text"));
            let kind = match kind {
                "int4" => Type::Int4,
                "int8" => Type::Int8,
                "numeric" => Type::Numeric,
                _ => Type::Text,
            };
            (name.to_owned(), kind)
        };
        Self { columns: columns.split_whitespace().map(column).collect(), rows: Vec::new() }
    }

    pub(super) fn push(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.columns.len(), "{:?}", self.columns);
        self.rows.push(row);
    }

    /// RowDescription. `formats` as a Bind gives them: none, one for all columns, or one each.
    pub(super) fn describe(&self, formats: &[u16], out: &mut Vec<u8>) {
        let columns: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (name, kind))| (name.as_str(), kind.facts(), format_of(formats, at)))
            .collect();
        encode::row_description_of(out, &columns);
    }

    /// Every row as a DataRow.
    pub(super) fn data(&self, formats: &[u16], out: &mut Vec<u8>) {
        for row in &self.rows {
            let values: Vec<Option<Vec<u8>>> = row
                .iter()
                .zip(&self.columns)
                .enumerate()
                .map(|(at, (value, (_, kind)))| encoded(value, *kind, format_of(formats, at) == 1))
                .collect();
            let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
            encode::data_row(out, &values);
        }
    }
}

fn format_of(formats: &[u16], column: usize) -> u16 {
    match formats {
        [] => 0,
        [one] => *one,
        each => each.get(column).copied().unwrap_or(0),
    }
}

fn encoded(value: &Value, kind: Type, binary: bool) -> Option<Vec<u8>> {
    let number = match value {
        Value::Null => return None,
        Value::Text(text) => return Some(text.clone().into_bytes()),
        Value::Number(number) => *number,
    };
    Some(match kind {
        Type::Int4 => {
            // PgBouncer's type, which is too small for some of what it counts.
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            if binary { number.to_be_bytes().to_vec() } else { number.to_string().into_bytes() }
        }
        Type::Int8 => {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            if binary { number.to_be_bytes().to_vec() } else { number.to_string().into_bytes() }
        }
        Type::Numeric if binary => numeric(number),
        Type::Numeric | Type::Text => number.to_string().into_bytes(),
    })
}

/// PostgreSQL's binary numeric (`numeric_send`): count of digits of base 10,000, weight of the first, sign, scale, digits.
fn numeric(number: u64) -> Vec<u8> {
    let mut digits = Vec::new();
    let mut rest = number;
    while rest > 0 {
        digits.push(u16::try_from(rest % 10_000).unwrap_or(0));
        rest /= 10_000;
    }
    digits.reverse();
    let weight = i16::try_from(digits.len()).unwrap_or(0) - 1;
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let count = u16::try_from(digits.len()).unwrap_or(0);
    let mut out = Vec::with_capacity(8 + 2 * digits.len());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.max(0).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_postgresql_writes_them() {
        assert_eq!(numeric(0), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(numeric(7), [0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
        // 1 0000 0000: one digit of weight two.
        assert_eq!(numeric(100_000_000), [0, 1, 0, 2, 0, 0, 0, 0, 0, 1]);
        assert_eq!(numeric(12_345_678), [0, 2, 0, 1, 0, 0, 0, 0, 4, 210, 22, 46]);
        assert_eq!(encoded(&Value::Number(u64::MAX), Type::Int4, true), Some(vec![127, 255, 255, 255]));
        assert_eq!(encoded(&Value::Number(5), Type::Text, true), Some(b"5".to_vec()));
    }

    #[test]
    fn columns_have_the_formats_that_were_asked_for() {
        assert_eq!([format_of(&[], 3), format_of(&[1], 3), format_of(&[0, 1], 1)], [0, 1, 1]);
        let table = Table::new("a b:int4 c:int8 d:numeric");
        let kinds: Vec<Type> = table.columns.iter().map(|(_, kind)| *kind).collect();
        assert_eq!(kinds, [Type::Text, Type::Int4, Type::Int8, Type::Numeric]);
    }
}
