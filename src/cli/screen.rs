//! The terminal: aligned tables, colours where somebody can see them, one line of complaint.

use std::io::{self, IsTerminal as _, Write as _};

/// How a cell is shown on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Worth a look.
    Warn,
    /// Something is wrong.
    Bad,
    /// Less important.
    Dim,
    /// More important.
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\u{1b}[32m",
            Self::Warn => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
            Self::Dim => "\u{1b}[2m",
            Self::Strong => "\u{1b}[1m",
        }
    }
}

/// A text with its tone. Control characters in it, which a server could have sent, are not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let text: String = text.into().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { text, ..Self::default() }
    }

    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { tone, ..Self::new(text) }
    }

    /// A number: aligned to the right.
    pub(super) fn number(text: impl Into<String>) -> Self {
        Self { right: true, ..Self::new(text) }
    }

    fn show(&self, width: usize, colours: bool, last: bool) -> String {
        let length = self.text.chars().count();
        let space = " ".repeat(width.saturating_sub(length));
        let (code, end) =
            if colours && self.tone != Tone::Plain { (self.tone.code(), "\u{1b}[0m") } else { ("", "") };
        let text = &self.text;
        match (self.right, last) {
            (true, _) => format!("{space}{code}{text}{end}"),
            (false, true) => format!("{code}{text}{end}"),
            (false, false) => format!("{code}{text}{end}{space}"),
        }
    }
}

/// Where a command's data goes.
#[derive(Debug)]
pub(super) struct Screen {
    colours: bool,
    terminal: bool,
}

impl Screen {
    /// Standard output.
    pub(super) fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        #[expect(clippy::disallowed_methods, reason = "NO_COLOR is a convention of the command line")]
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: terminal && wanted, terminal }
    }

    /// Whether a person looks.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes text as it is.
    #[expect(clippy::unused_self, reason = "whoever writes has a screen, and has thought of its colours")]
    pub(super) fn text(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Writes a line.
    pub(super) fn line(&self, text: &str) -> io::Result<()> {
        self.text(&format!("{text}\n"))
    }

    /// A table as text.
    pub(super) fn table(&self, header: &[&str], rows: &[Vec<Cell>]) -> String {
        let first = rows.first().map(Vec::as_slice).unwrap_or_default();
        let head = header.iter().enumerate().map(|(n, name)| Cell {
            right: first.get(n).is_some_and(|cell| cell.right),
            ..Cell::toned(*name, Tone::Dim)
        });
        let mut all = vec![head.collect::<Vec<Cell>>()];
        all.extend_from_slice(rows);
        self.rows(&all)
    }

    /// Rows with aligned columns, without a header.
    pub(super) fn rows(&self, rows: &[Vec<Cell>]) -> String {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let length = |row: &Vec<Cell>, n: usize| row.get(n).map_or(0, |cell| cell.text.chars().count());
        let widths: Vec<usize> =
            (0..columns).map(|n| rows.iter().map(|row| length(row, n)).max().unwrap_or(0)).collect();
        let mut text = String::new();
        for row in rows {
            for ((n, cell), width) in row.iter().enumerate().zip(&widths) {
                let last = n + 1 == row.len();
                text.push_str(&cell.show(*width, self.colours, last));
                text.push_str(if last { "\n" } else { "  " });
            }
        }
        text
    }

    /// A toned text alone.
    pub(super) fn toned(&self, text: &str, tone: Tone) -> String {
        Cell::toned(text, tone).show(0, self.colours, true)
    }
}

/// One line (or, for a list of problems, a few) on stderr. If that is closed, nobody can be told.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "primacy: {text}"));
}

/// Bytes for people.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes >> shift > 0);
    match unit {
        Some((name, shift)) => {
            let tenths = (bytes >> (shift - 4)) * 10 / 16;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// Milliseconds for people.
pub(super) fn millis(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms / 100 % 10),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let screen = Screen { colours: false, terminal: false };
        let rows = [
            vec![Cell::new("n1"), Cell::number("7"), Cell::new("up")],
            vec![Cell::new("node-2"), Cell::number("1234"), Cell::toned("down", Tone::Bad)],
        ];
        let text = screen.table(&["NODE", "LAG", "STATE"], &rows);
        assert_eq!(text, "NODE     LAG  STATE\nn1         7  up\nnode-2  1234  down\n");
    }

    #[test]
    fn colours_do_not_move_columns_and_control_characters_do_not_pass() {
        let screen = Screen { colours: true, terminal: true };
        let text = screen.table(&["A", "B"], &[vec![Cell::toned("\u{1b}[31mx", Tone::Good), Cell::new("y")]]);
        assert_eq!(text.lines().nth(1), Some("\u{1b}[32m [31mx\u{1b}[0m  y"));
    }

    #[test]
    fn sizes_and_times_are_for_people() {
        for (n, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (10 << 20, "10.0 MiB")]
        {
            assert_eq!(bytes(n), text);
        }
        for (n, text) in [(7, "7 ms"), (1_250, "1.2 s"), (61_000, "1 min 1 s"), (7_260_000, "2 h 1 min")] {
            assert_eq!(millis(n), text);
        }
    }
}
