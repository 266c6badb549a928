//! Two-column tables, aligned by display width.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

/// Header, rule and one line per row; no line feed at the end. Both columns are padded, the last one too.
pub(crate) fn two_columns<'a>(header: [&'a str; 2], rows: &[[Cow<'a, str>; 2]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].width());
        cells.chain([header[column].width()]).max().unwrap_or_default()
    };
    let widths = [width(0), width(1)];
    let mut table = line(&header, widths);
    table.push('\n');
    table.push_str(&format!("{}-+-{}", "-".repeat(widths[0]), "-".repeat(widths[1])));
    for [left, right] in rows {
        table.push('\n');
        table.push_str(&line(&[left, right], widths));
    }
    table
}

fn line(cells: &[&str; 2], widths: [usize; 2]) -> String {
    let blanks = |column: usize| " ".repeat(widths[column] - cells[column].width());
    format!("{}{} | {}{}", cells[0], blanks(0), cells[1], blanks(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[[&str; 2]], expected: &str) {
        let rows: Vec<_> = rows.iter().map(|row| row.map(Cow::Borrowed)).collect();
        assert_eq!(two_columns(["key", "value"], &rows), expected);
    }

    #[test]
    fn columns_are_at_least_as_wide_as_their_headers() {
        check(&[], "key | value\n----+------");
        check(&[["a", "1"]], "key | value\n----+------\na   | 1    ");
    }

    #[test]
    fn wide_and_combining_characters_line_up() {
        check(
            &[["ключ", "日本"], ["e\u{301}", "x"]],
            "key  | value\n-----+------\nключ | 日本 \ne\u{301}    | x    ",
        );
    }
}
