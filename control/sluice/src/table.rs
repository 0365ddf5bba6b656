//! Columns for people: as wide as their widest cell, numbers to the right.

/// A table that is printed whole.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. A header that begins with `>` is a column of numbers.
    pub(crate) fn new(header: &[&'static str]) -> Table {
        Table { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell a column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether it has no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, header first; no trailing blanks.
    pub(crate) fn lines(&self) -> Vec<String> {
        let width: Vec<usize> = (0..self.header.len())
            .map(|i| {
                let cells = self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
                cells.chain([self.title(i).chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let head: Vec<String> = (0..self.header.len()).map(|i| self.title(i).to_string()).collect();
        std::iter::once(&head).chain(&self.rows).map(|r| self.line(r, &width)).collect()
    }

    fn title(&self, column: usize) -> &'static str {
        self.header.get(column).map_or("", |h| h.trim_start_matches('>'))
    }

    fn line(&self, cells: &[String], width: &[usize]) -> String {
        let mut out = String::new();
        for (i, (cell, w)) in cells.iter().zip(width).enumerate() {
            if i > 0 {
                out.push_str("  ");
            }
            let right = self.header.get(i).is_some_and(|h| h.starts_with('>'));
            out.push_str(&if right { format!("{cell:>w$}") } else { format!("{cell:<w$}") });
        }
        out.trim_end().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_no_line_ends_in_blanks() {
        let mut t = Table::new(&["NAME", ">PACKETS", "TEXT"]);
        t.row(vec!["ssh".into(), "7".into(), "accept".into()]);
        t.row(vec!["everything".into(), "123456789".into(), String::new()]);
        assert_eq!(
            t.lines(),
            ["NAME          PACKETS  TEXT", "ssh                 7  accept", "everything  123456789"]
        );
    }
}
