//! One bar, as wide as its place in a table: a value, how far it spreads, and what was aimed at.

use crate::work::report::markup::{Attributes, Markup};

/// A bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Where it ends.
    pub value: f64,
    /// Quartiles, if there are any.
    pub spread: Option<(f64, f64)>,
    /// A mark that it is compared with.
    pub target: Option<f64>,
    /// The value at the right end.
    pub most: f64,
    /// Number of its colour.
    pub colour: usize,
}

impl Bar {
    /// Just a value.
    pub fn of(value: f64, most: f64) -> Self {
        Self { value, spread: None, target: None, most, colour: 0 }
    }

    /// Draws it.
    pub fn draw(&self, page: &mut Markup) {
        let colour = format!("bar c{}", self.colour % super::lines::COLOURS);
        page.within("svg", &[("class", &"bar"), ("aria-hidden", &"true")], |page| {
            let width = self.place(self.value);
            page.shape(
                "rect",
                &[("class", &colour), ("y", &"15%"), ("width", &width), ("height", &"70%")],
            );
            if let Some((low, high)) = self.spread {
                let (low, high) = (self.place(low), self.place(high));
                let ends: Attributes<'_> = &[
                    ("class", &"spread"),
                    ("x1", &low),
                    ("x2", &high),
                    ("y1", &"50%"),
                    ("y2", &"50%"),
                ];
                page.shape("line", ends);
            }
            if let Some(target) = self.target {
                let target = self.place(target);
                page.shape(
                    "line",
                    &[("class", &"target"), ("x1", &target), ("x2", &target), ("y2", &"100%")],
                );
            }
        });
    }

    fn place(&self, value: f64) -> String {
        let share = value / self.most;
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        format!("{:.2}%", share * 100.0)
    }
}
