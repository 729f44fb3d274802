//! Reading `/metrics`.

use std::collections::HashMap;

/// The series of one scrape.
#[derive(Debug, Clone)]
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let read = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        };
        Self(samples.map(read).collect())
    }

    /// The value of a series, written as it is exported; a name alone stands for the sum over all
    /// labels. Panics if there is none: a name that is misspelt must not pass as 0.
    pub fn value(&self, series: &str) -> f64 {
        if let Some(value) = self.0.get(series) {
            return *value;
        }
        let labelled = self.0.iter().filter(|(name, _)| {
            name.strip_prefix(series).is_some_and(|rest| rest.starts_with('{'))
        });
        let values: Vec<_> = labelled.map(|(_, value)| value).collect();
        assert!(!values.is_empty(), "there is no series {series}");
        values.into_iter().sum()
    }

    /// All series, as they are exported.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
