//! Columns of text.

/// How a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At the column's left.
    Left,
    /// At its right.
    Right,
}

/// Lays out rows of cells: columns as wide as their widest cell, two blanks between them, none at the end of a line.
pub fn lay_out(align: &[Align], rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..align.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(align.iter().zip(&widths)).map(|(cell, (align, &width))| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["n".to_owned(), "name".to_owned()], vec!["1000".to_owned(), "ü".to_owned()]];
        assert_eq!(lay_out(&[Align::Right, Align::Left], &rows), "   n  name\n1000  ü\n");
        assert_eq!(lay_out(&[Align::Left], &[]), "");
    }
}
