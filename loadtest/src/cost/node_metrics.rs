//! A node's own counts, as its admin listener tells them to Prometheus.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::os::exchange::ask;

/// One answer of `/metrics`.
#[derive(Debug)]
pub struct NodeMetrics(String);

impl NodeMetrics {
    /// Asks the node whose admin listener is at `admin`.
    pub fn fetch(admin: SocketAddr) -> Result<Self> {
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        let answer = ask(admin, &request);
        let answer = answer.with_context(|| format!("the node at {admin} can't be asked"))?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split_whitespace().nth(1);
        ensure!(status == Some("200"), "GET /metrics at {admin} was answered with {status:?}");
        Ok(Self(text))
    }

    /// The lines of it.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The sum of `name` over all its labels; zero if there is none yet.
    pub fn sum(&self, name: &str) -> f64 {
        self.0.lines().filter_map(|line| value_of(line, name)).sum()
    }
}

/// The value on a line of this name. A label's value may hold anything, but the line's own stands last.
fn value_of(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    if !rest.starts_with(['{', ' ']) {
        return None;
    }
    rest.rsplit_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sum_is_over_all_labels_and_one_name() {
        let text = "# TYPE umbel_sessions_open gauge\n\
                    umbel_sessions_open{transport=\"sse\"} 2\n\
                    umbel_sessions_open{transport=\"web } 9 socket\"} 3\n\
                    umbel_sessions_opened_total{transport=\"sse\"} 100\nplain 7\n";
        let metrics = NodeMetrics(text.to_owned());
        for (name, sum) in [("umbel_sessions_open", 5.0), ("plain", 7.0), ("none", 0.0)] {
            assert!((metrics.sum(name) - sum).abs() < f64::EPSILON, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in "(a|\u{e4})?[ {}0-9\"=]{0,40}") {
            let _ = value_of(&line, "a");
        }
    }
}
