//! Lines over one axis, with a legend above.

use super::scale::Scale;
use crate::work::report::markup::{Attributes, Markup};
use crate::work::report::number::Unit;

/// The drawing's size in its own units; it is shown as wide as there is room.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 26.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = HEIGHT - 38.0;
/// Horizontal extent of the plot, for who makes its scale.
pub const X_PIXELS: (f64, f64) = (LEFT, RIGHT);
/// Vertical extent of the plot.
pub const Y_PIXELS: (f64, f64) = (BOTTOM, TOP);
/// Columns of the plot: of more points than two of each only the least and the most of a column are drawn.
const COLUMNS: usize = 400;
/// Colours that the page has; further lines have the same ones, dashed.
pub const COLOURS: usize = 8;
/// Lines that are drawn; more couldn't be told apart.
pub const MOST: usize = 3 * COLOURS;

/// A chart of lines.
#[derive(Debug)]
pub struct Lines<'a> {
    /// What it shows.
    pub title: String,
    /// The horizontal axis: its scale, and its ticks' places and labels.
    pub x: (Scale, Vec<(f64, String)>),
    /// What the horizontal axis is.
    pub x_title: &'a str,
    /// The vertical axis.
    pub y: Scale,
    /// What the vertical axis counts.
    pub unit: Unit,
    /// The lines.
    pub series: Vec<Series<'a>>,
    /// What happened at which place, and until when.
    pub events: Vec<Event>,
}

/// One line.
#[derive(Debug)]
pub struct Series<'a> {
    /// What it is.
    pub name: &'a str,
    /// Its places, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Points with a dot that says more when it is pointed at.
    pub dots: Vec<(f64, f64, String)>,
}

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    /// From when.
    pub from: f64,
    /// Until when.
    pub to: f64,
    /// What.
    pub what: String,
}

impl Lines<'_> {
    /// Draws it, with title and legend.
    pub fn draw(&self, page: &mut Markup) {
        page.within("figure", &[("class", &"chart")], |page| {
            page.within("figcaption", &[], |page| self.caption(page));
            let view_box = format!("0 0 {WIDTH} {HEIGHT}");
            let attributes: Attributes<'_> =
                &[("viewBox", &view_box), ("role", &"img"), ("aria-label", &self.title)];
            page.within("svg", attributes, |page| {
                self.events(page);
                self.axes(page);
                for (index, series) in self.series.iter().take(MOST).enumerate() {
                    self.line(page, index, series);
                }
                if self.series.iter().all(|series| series.points.is_empty()) {
                    let (x, y) = (f64::midpoint(LEFT, RIGHT), f64::midpoint(TOP, BOTTOM));
                    page.element("text", &[("x", &x), ("y", &y)], "nothing was measured");
                }
            });
        });
    }

    fn caption(&self, page: &mut Markup) {
        page.element("strong", &[], &self.title);
        if self.series.len() > 1 || !self.events.is_empty() {
            page.within("span", &[("class", &"legend")], |page| {
                for (index, series) in self.legend().enumerate() {
                    page.within("span", &[], |page| {
                        key(page, index);
                        page.text(series.name);
                    });
                }
                for what in distinct(&self.events) {
                    page.within("span", &[], |page| {
                        page.within(
                            "svg",
                            &[("class", &"key"), ("viewBox", &"0 0 22 8")],
                            |page| {
                                page.shape(
                                    "rect",
                                    &[("class", &"event"), ("width", &22), ("height", &8)],
                                );
                            },
                        );
                        page.text(what);
                    });
                }
                if self.series.len() > MOST {
                    let more = self.series.len() - MOST;
                    page.element("span", &[], format_args!("and {more} more, not drawn"));
                }
            });
        }
    }

    /// A single line is told by the title.
    fn legend(&self) -> impl Iterator<Item = &Series<'_>> {
        let most = if self.series.len() > 1 { MOST } else { 0 };
        self.series.iter().take(most)
    }

    fn axes(&self, page: &mut Markup) {
        for tick in self.y.ticks() {
            let y = pixel(self.y.at(tick));
            page.shape(
                "line",
                &[("class", &"grid"), ("x1", &LEFT), ("x2", &RIGHT), ("y1", &y), ("y2", &y)],
            );
            let (x, y) = (LEFT - 6.0, pixel(self.y.at(tick) + 3.5));
            page.element("text", &[("class", &"end"), ("x", &x), ("y", &y)], self.unit.tick(tick));
        }
        for (tick, label) in &self.x.1 {
            let x = pixel(self.x.0.at(*tick));
            let (from, to) = (BOTTOM, BOTTOM + 4.0);
            page.shape(
                "line",
                &[("class", &"tick"), ("x1", &x), ("x2", &x), ("y1", &from), ("y2", &to)],
            );
            page.element("text", &[("x", &x), ("y", &(BOTTOM + 17.0))], label);
        }
        let (x, y) = (f64::midpoint(LEFT, RIGHT), HEIGHT - 4.0);
        page.element("text", &[("x", &x), ("y", &y)], self.x_title);
    }

    fn events(&self, page: &mut Markup) {
        for event in &self.events {
            let (from, to) = (self.x.0.at(event.from), self.x.0.at(event.to));
            let (x, width, height) = (pixel(from), pixel((to - from).max(1.5)), BOTTOM - TOP);
            page.within(
                "rect",
                &[
                    ("class", &"event"),
                    ("x", &x),
                    ("y", &TOP),
                    ("width", &width),
                    ("height", &height),
                ],
                |page| page.element("title", &[], &event.what),
            );
        }
    }

    fn line(&self, page: &mut Markup, index: usize, series: &Series<'_>) {
        let place = |(x, y): (f64, f64)| (self.x.0.at(x), self.y.at(y));
        let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        let points: Vec<_> = series.points.iter().copied().filter(finite).map(place).collect();
        let points = thinned(&points);
        let class = class(index);
        if let [(x, y)] = points[..] {
            let (x, y) = (pixel(x), pixel(y));
            page.shape("circle", &[("class", &class), ("cx", &x), ("cy", &y), ("r", &3)]);
        }
        let places: Vec<String> =
            points.iter().map(|(x, y)| format!("{},{}", pixel(*x), pixel(*y))).collect();
        if places.len() > 1 {
            page.shape("polyline", &[("class", &class), ("points", &places.join(" "))]);
        }
        for (x, y, what) in series.dots.iter().filter(|(x, y, _)| finite(&(*x, *y))) {
            let (x, y) = place((*x, *y));
            let (x, y) = (pixel(x), pixel(y));
            let circle: Attributes<'_> = &[("class", &class), ("cx", &x), ("cy", &y), ("r", &3.5)];
            page.within("circle", circle, |page| page.element("title", &[], what));
        }
    }
}

fn key(page: &mut Markup, index: usize) {
    page.within("svg", &[("class", &"key"), ("viewBox", &"0 0 22 8")], |page| {
        page.shape("line", &[("class", &class(index)), ("x2", &22), ("y1", &4), ("y2", &4)]);
    });
}

/// What happened, each once.
fn distinct(events: &[Event]) -> Vec<&str> {
    let mut names: Vec<&str> = events.iter().map(|event| event.what.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn class(index: usize) -> String {
    format!("line c{} d{}", index % COLOURS, index / COLOURS % 3)
}

/// At most two points for each column: the least and the most of it.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * COLUMNS {
        return points.to_vec();
    }
    let extremes = points.chunks(points.len().div_ceil(COLUMNS)).flat_map(|chunk| {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (least, most) = (chunk.iter().min_by(by_height), chunk.iter().max_by(by_height));
        let mut both: Vec<_> = least.into_iter().chain(most).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both
    });
    extremes.collect()
}

/// Half-pixels are fine enough.
fn pixel(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::scale::Spacing;
    use super::*;
    use proptest::prelude::*;

    fn drawn(points: &[(f64, f64)], spacing: Spacing, lines: usize) -> String {
        let x = Scale::around(Spacing::Linear, points.iter().map(|(x, _)| *x), X_PIXELS);
        let y = Scale::around(spacing, points.iter().map(|(_, y)| *y), Y_PIXELS);
        let dots = points.iter().take(1).map(|(x, y)| (*x, *y, "dot".to_owned())).collect();
        let series = Series { name: "line", points: points.to_vec(), dots };
        let chart = Lines {
            title: "title".to_owned(),
            x: (x, x.ticks().into_iter().map(|tick| (tick, Unit::Plain.tick(tick))).collect()),
            x_title: "x",
            y,
            unit: Unit::Time,
            series: (0..lines)
                .map(|_| Series {
                    points: series.points.clone(),
                    dots: series.dots.clone(),
                    ..series
                })
                .collect(),
            events: vec![Event { from: 1.0, to: f64::INFINITY, what: "event".to_owned() }],
        };
        let mut page = Markup::default();
        chart.draw(&mut page);
        page.finish()
    }

    fn places(svg: &str) -> Vec<&str> {
        let points = svg.split_once("points=\"").map_or("", |(_, rest)| rest);
        points.split('"').next().unwrap_or_default().split_whitespace().collect()
    }

    #[test]
    fn nothing_one_point_and_two() {
        let nothing = drawn(&[], Spacing::Linear, 1);
        assert!(nothing.contains("nothing was measured") && places(&nothing).is_empty());
        let one = drawn(&[(1.0, 2.0)], Spacing::Linear, 1);
        assert!(one.contains("<circle") && places(&one).is_empty(), "{one}");
        assert_eq!(
            places(&drawn(&[(0.0, 0.0), (1.0, 1.0)], Spacing::Linear, 1)),
            ["52,212", "454,12"]
        );
    }

    #[test]
    fn of_very_many_points_the_extremes_stay() {
        let height = |index| match index {
            33_333 => 0.0,
            77_777 => 100.0,
            _ => 50.0,
        };
        let points: Vec<_> = (0..100_000).map(|x: u32| (f64::from(x), height(x))).collect();
        let svg = drawn(&points, Spacing::Linear, 1);
        let places = places(&svg);
        assert!((COLUMNS..=2 * COLUMNS).contains(&places.len()), "{}", places.len());
        for extreme in [",12", ",212"] {
            assert!(places.iter().any(|place| place.ends_with(extreme)), "{extreme} is lost");
        }
    }

    #[test]
    fn lines_that_could_not_be_told_apart_are_counted() {
        let svg = drawn(&[(0.0, 1.0), (1.0, 2.0)], Spacing::Linear, MOST + 3);
        assert!(svg.contains("and 3 more, not drawn"));
        assert_eq!(svg.matches("<polyline").count(), MOST);
        assert!(svg.contains("line c0 d0") && svg.contains("line c0 d1"));
    }

    proptest! {
        #[test]
        fn whatever_the_points_are_a_chart_has_only_numbers_within_it(
            points in proptest::collection::vec(
                (proptest::num::f64::ANY, proptest::num::f64::ANY), 0..50),
            logarithmic: bool,
        ) {
            let spacing = if logarithmic { Spacing::Logarithmic } else { Spacing::Linear };
            let svg = drawn(&points, spacing, 1);
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
            for place in places(&svg) {
                let (x, y) = place.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                prop_assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y));
            }
        }
    }
}
