//! Tables: heads in capitals, two blanks between columns, no lines.

use unicode_width::UnicodeWidthStr as _;

/// Blanks between two columns.
const GAP: usize = 2;

/// Heads and rows, each column as wide as its widest cell; no line feed at the end.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| visible(cell).width());
        cells.chain([heads[column].width()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let mut lines = vec![line(&widths, heads.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&widths, row.iter().map(String::as_str))));
    lines.join("\n")
}

/// One row in columns of at least these widths; nothing is padded behind the last cell.
pub(crate) fn line<'a>(widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::new();
    let mut owed = 0;
    for (cell, width) in cells.zip(widths) {
        let cell = visible(cell);
        line.extend(std::iter::repeat_n(' ', owed));
        line.push_str(&cell);
        owed = width.saturating_sub(cell.width()) + GAP;
    }
    line.truncate(line.trim_end().len());
    line
}

/// Named values below each other.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let widest = fields.iter().map(|(name, _)| name.width()).max().unwrap_or_default() + 1;
    let lines =
        fields.iter().map(|(name, value)| line(&[widest, 0], [&*format!("{name}:"), value].into_iter()));
    lines.collect::<Vec<_>>().join("\n")
}

/// The text without what could do something to a terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_blanks_at_the_end() {
        let rows = [vec!["n1".to_owned(), "日本".to_owned(), "x".to_owned()], vec!["longer".to_owned()]];
        assert_eq!(table(&["NAME", "B", "C"], &rows), "NAME    B     C\nn1      日本  x\nlonger");
    }

    #[test]
    fn an_empty_table_is_its_heads() {
        assert_eq!(table(&["A", "B"], &[]), "A  B");
    }

    #[test]
    fn names_of_values_line_up() {
        assert_eq!(
            fields(&[("Node", "n1".to_owned()), ("Cluster", "c".to_owned())]),
            "Node:     n1\nCluster:  c"
        );
    }

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        assert_eq!(table(&["A"], &[vec!["\u{1b}[2J\n".to_owned()]]), "A\n\u{fffd}[2J\u{fffd}");
    }
}
