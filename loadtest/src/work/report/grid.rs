//! Tables of a page.

use super::chart::bar::Bar;
use super::markup::Markup;
use crate::bench::spread::Verdict;

/// What is in a cell.
#[derive(Debug, Clone)]
pub enum Cell {
    /// Words.
    Text(String),
    /// Words that lead to another place of the page.
    Link(String, String),
    /// A figure, as it is shown.
    Number(String),
    /// Whether something was reached.
    Verdict(Verdict),
    /// A value as a bar.
    Bar(Bar),
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A figure.
    pub fn number(text: impl Into<String>) -> Self {
        Self::Number(text.into())
    }
}

/// A table with this head. Columns of figures and bars are the same in all rows.
pub fn grid(page: &mut Markup, head: &[&str], rows: &[Vec<Cell>]) {
    page.within("div", &[("class", &"scroll")], |page| {
        page.within("table", &[], |page| {
            page.within("thead", &[], |page| {
                page.within("tr", &[], |page| {
                    for (column, name) in head.iter().enumerate() {
                        let class = rows.first().and_then(|row| row.get(column)).map_or("", class);
                        page.element("th", &[("scope", &"col"), ("class", &class)], name);
                    }
                });
            });
            page.within("tbody", &[], |page| {
                for row in rows {
                    page.within("tr", &[], |page| row.iter().for_each(|cell| one(page, cell)));
                }
            });
        });
    });
}

fn class(cell: &Cell) -> &'static str {
    match cell {
        Cell::Number(_) => "number",
        Cell::Bar(_) => "bars",
        _ => "",
    }
}

fn one(page: &mut Markup, cell: &Cell) {
    page.within("td", &[("class", &class(cell))], |page| match cell {
        Cell::Text(text) | Cell::Number(text) => page.text(text),
        Cell::Link(text, place) => page.element("a", &[("href", &format_args!("#{place}"))], text),
        Cell::Verdict(verdict) => badge(page, *verdict),
        Cell::Bar(bar) => bar.draw(page),
    });
}

/// A verdict as a word with its sign: not by colour alone.
pub fn badge(page: &mut Markup, verdict: Verdict) {
    let (class, text) = match verdict {
        Verdict::Reached => ("badge reached", "✓ reached"),
        Verdict::Missed => ("badge missed", "✗ missed"),
        Verdict::Undecided => ("badge undecided", "≈ undecided"),
        Verdict::Unjudged => return,
    };
    page.element("span", &[("class", &class)], text);
}

/// `reached` as a verdict.
pub fn verdict(reached: bool) -> Verdict {
    if reached { Verdict::Reached } else { Verdict::Missed }
}
