//! A run second by second: a small chart for each thing that went on.

use super::chart::lines::{Event, Lines, Series, X_PIXELS, Y_PIXELS};
use super::chart::scale::{Scale, Spacing};
use super::markup::Markup;
use super::number::{Unit, float};
use crate::work::file::{What, Workload};
use crate::work::result::{Moment, Run};

/// What is drawn: name, unit, and where it is from.
type Drawn = (&'static str, Unit, fn(&Moment) -> Option<f64>);

const ALL: [Drawn; 5] = [
    ("Received per second", Unit::PerSecond, |moment| Some(float(moment.received))),
    ("Open sessions", Unit::Count, |moment| Some(float(moment.open))),
    ("Published per second", Unit::PerSecond, |moment| Some(float(moment.published))),
    ("Connects per second", Unit::PerSecond, |moment| Some(float(moment.connects))),
    ("Servers' cores", Unit::Cores, |moment| moment.server_cores),
];

/// Charts of what wasn't nothing all the time.
pub fn charts(page: &mut Markup, run: &Run) {
    for (name, unit, of) in ALL {
        let points: Vec<(f64, f64)> =
            run.series.iter().filter_map(|moment| Some((moment.second, of(moment)?))).collect();
        if points.iter().any(|(_, value)| *value != 0.0) {
            chart(page, run, (name, unit), points);
        }
    }
}

fn chart(page: &mut Markup, run: &Run, (name, unit): (&str, Unit), points: Vec<(f64, f64)>) {
    let x = Scale::around(Spacing::Linear, run.series.iter().map(|moment| moment.second), X_PIXELS);
    let y = Scale::around(Spacing::Linear, points.iter().map(|(_, value)| *value), Y_PIXELS);
    let ticks = x.ticks().into_iter().map(|tick| (tick, Unit::Plain.tick(tick))).collect();
    let chart = Lines {
        title: name.to_owned(),
        x: (x, ticks),
        x_title: "seconds",
        y,
        unit,
        series: vec![Series { name, points, dots: Vec::new() }],
        events: events(&run.workload),
    };
    chart.draw(page);
}

/// What was made to fail or to come back.
fn events(workload: &Workload) -> Vec<Event> {
    let faults = workload.faults.iter().map(|fault| Event {
        from: fault.at_seconds,
        to: fault.at_seconds + fault.away_seconds,
        what: word(fault.what).to_owned(),
    });
    let storm = workload.sessions.storm.map(|storm| Event {
        from: storm.at_seconds,
        to: storm.at_seconds,
        what: "all but the steady sessions are closed and come back".to_owned(),
    });
    faults.chain(storm).collect()
}

fn word(what: What) -> &'static str {
    match what {
        What::RestartNode => "the first node is restarted",
        What::KillNode => "the first node is killed and started anew",
        What::RestartRedis => "Redis is killed and started anew",
        What::PauseRedis => "Redis stands still",
    }
}
