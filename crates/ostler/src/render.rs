//! How things look: pure functions from data to text, for a terminal or for a pipe. Nothing here writes.

pub(crate) mod ask;
pub(crate) mod result;
pub(crate) mod servers;
pub(crate) mod status;
pub(crate) mod text;
pub(crate) mod tools;
pub(crate) mod why;

use comfy_table::{ContentArrangement, Table, presets};

/// What the reader of our output can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A pipe or a file: plain, stable lines.
    Plain,
    /// A person's terminal.
    Terminal {
        /// How many columns it has, if that is known.
        width: Option<u16>,
        /// Whether it shows colours and its owner wants them.
        colour: Colour,
    },
}

/// Whether colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Yes.
    On,
    /// No.
    Off,
}

/// The few colours there are, by what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Wait,
    Bad,
    Faint,
}

/// The narrowest last column that is worth wrapping, in characters.
const READABLE: usize = 20;

/// What all columns but the last need, with two blanks behind each.
fn fixed_width(header: &[&str], rows: &[Vec<String>]) -> usize {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or_default()
    };
    (0..header.len().saturating_sub(1)).map(|column| widest(column) + 2).sum()
}

impl Style {
    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Colours a text, if colours are on.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if !matches!(self, Self::Terminal { colour: Colour::On, .. }) || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => 32,
            Paint::Wait => 33,
            Paint::Bad => 31,
            Paint::Faint => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Lays out a table without lines. In a terminal the last column wraps; in a pipe a row is a line.
    fn table(self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
        let rows: Vec<Vec<String>> = rows.into_iter().collect();
        let fixed = fixed_width(header, &rows);
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.iter().copied()).add_rows(rows);
        table.set_content_arrangement(ContentArrangement::Disabled);
        // On a terminal too narrow for a readable last column the terminal itself wraps the whole row.
        if let Self::Terminal { width: Some(width), .. } = self
            && usize::from(width) >= fixed + READABLE
        {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            let last = header.len().saturating_sub(1);
            for column in table.column_iter_mut().take(last) {
                column.set_constraint(comfy_table::ColumnConstraint::ContentWidth);
            }
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}
