//! A holder against a real node: cuts, slow readers, churn and a storm, and what it says came of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "work_holder/stage.rs"]
mod stage;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use stage::{PAYLOAD, Stage, resuming, sessions};
use umbel_loadtest::load::ledger::Integrity;
use umbel_loadtest::wire::payload::Template;
use umbel_loadtest::work::file::{Churn, Cut, Slow, Storm, Topics, Transport};
use umbel_loadtest::work::orders::{Order, Report, Said, Times};
use umbel_loadtest::work::shape::Shape;

const CUT: Cut = Cut { every_seconds: 0.5, away_seconds: 0.1 };

fn entries(times: &Times) -> u64 {
    times.0.iter().map(|(_, count)| count).sum()
}

#[track_caller]
fn assert_whole(report: &Report, expected: u64) {
    let clean = Integrity { expected, received: expected, ..Integrity::default() };
    assert_eq!(report.integrity, clean, "{:?}", report.state);
    assert_eq!((report.never_returned, report.gaps), (0, 0), "{:?}", report.state);
}

#[test]
fn who_is_cut_and_resumes_misses_nothing() {
    for (transport, count, messages) in
        [(Transport::Json, 200, 40), (Transport::Sse, 50, 30), (Transport::Poll, 50, 30)]
    {
        let mut sessions = resuming(count, transport);
        sessions.cut = Some(CUT);
        let mut stage = Stage::open(sessions, Topics::default());
        stage.begin();
        stage.publish(messages, Duration::from_millis(25), |_| 0);
        let report = stage.end();
        let expected = (messages * count) as u64;
        assert_whole(&report, expected);
        assert!(report.state.cut >= count as u64, "{transport:?}: {:?}", report.state);
        assert_eq!(report.state.opened, count as u64 + report.state.cut);
        // Those who were away at the end came back behind it.
        let noted = entries(&report.connect);
        assert!(noted > 0 && noted <= report.state.cut, "{transport:?}: {noted}");
        assert_eq!(entries(&report.back), noted, "{transport:?}");
        assert!(entries(&report.replay) > 0, "{transport:?}: {:?}", report.state);
        let timed = entries(&report.replay) + entries(&report.delivery);
        assert_eq!(timed, expected, "{transport:?}");
    }
}

#[test]
fn who_is_cut_and_does_not_resume_loses_what_came_meanwhile() {
    let mut sessions = sessions(100, Transport::Json);
    sessions.cut = Some(CUT);
    let mut stage = Stage::open(sessions, Topics::default());
    stage.begin();
    stage.publish(40, Duration::from_millis(25), |_| 0);
    let report = stage.end();
    let Integrity { expected, received, lost, doubled, .. } = report.integrity;
    assert_eq!((expected, received + lost, doubled), (4000, 4000, 0));
    // Each is away for about a sixth of the time.
    assert!((200..2000).contains(&lost), "{lost} of {expected}");
    // What came while they were about to be open counts as a replay.
    assert_eq!(entries(&report.replay) + entries(&report.delivery), received);
    assert_eq!(report.never_returned, 0);
    assert_eq!(report.steady, Integrity::default(), "each was cut");
}

#[test]
fn those_who_stay_in_a_storm_are_judged_apart() {
    let mut sessions = sessions(100, Transport::Json);
    sessions.storm = Some(Storm { at_seconds: 0.0, steady: 20 });
    let mut stage = Stage::open(sessions, Topics::default());
    stage.begin();
    stage.order(&Order::Storm);
    stage.publish(20, Duration::from_millis(2), |_| 0);
    // Nobody published this one.
    stage.pretend(0);
    let report = stage.end();
    let steady =
        Integrity { expected: 20 * 21, received: 20 * 20, lost: 20, ..Integrity::default() };
    assert_eq!(report.steady, steady, "{report:?}");
    assert!(report.integrity.lost > 20, "{report:?}");
}

#[test]
fn slow_readers_are_behind_and_get_all() {
    let mut sessions = resuming(100, Transport::Json);
    sessions.slow = Some(Slow { share: 0.3, bytes_per_second: 1000 });
    let mut stage = Stage::open(sessions, Topics::default());
    stage.begin();
    stage.publish(100, Duration::from_millis(10), |_| 0);
    let before = stage.state().received;
    let report = stage.end();
    assert_whole(&report, 10_000);
    let timely = entries(&report.delivery);
    assert!((6000..8000).contains(&timely) && timely.is_multiple_of(100), "{timely}");
    // A slow one reads some ten messages in that time.
    assert!(before >= timely && before < timely + 2000, "{before} of {timely}");
    assert_eq!(report.last_receipts.len(), 100);
}

#[test]
fn topics_are_left_and_taken_without_a_loss() {
    let topics = Topics { shape: Shape::Zipf { topics: 10, exponent: 1.0 }, per_session: 2 };
    for transport in [Transport::Json, Transport::WebSocket] {
        let mut sessions = sessions(50, transport);
        sessions.churn = Some(Churn { per_second: 100.0 });
        let per_session = if transport == Transport::Json { 2 } else { 1 };
        let mut stage = Stage::open(sessions, Topics { per_session, ..topics });
        stage.begin();
        stage.publish(100, Duration::from_millis(10), |number| number % 10);
        let report = stage.end();
        let Integrity { expected, received, lost, doubled, .. } = report.integrity;
        assert!(received > 100 && expected == received, "{report:?}");
        assert_eq!((lost, doubled, report.never_returned), (0, 0, 0));
        assert!((80..130).contains(&report.state.churned), "{:?}", report.state);
        let closed = if transport == Transport::Json { 0 } else { report.state.churned };
        assert_eq!(report.state.cut, closed, "{transport:?}");
    }
}

#[test]
fn a_storm_leaves_the_steady_alone_and_all_come_back() {
    let mut sessions = resuming(200, Transport::Json);
    sessions.storm = Some(Storm { at_seconds: 0.0, steady: 20 });
    let mut stage = Stage::open(sessions, Topics::default());
    stage.begin();
    stage.publish(5, Duration::from_millis(5), |_| 0);
    stage.order(&Order::Storm);
    stage.publish(20, Duration::from_millis(10), |_| 0);
    let report = stage.end();
    assert_whole(&report, 25 * 200);
    assert_eq!((report.state.cut, report.state.opened, report.state.lost), (180, 380, 0));
    assert_eq!((entries(&report.connect), entries(&report.back)), (180, 180));
    assert_eq!(entries(&report.delivery), 25 * 20);
}

#[test]
fn rounds_are_awaited() {
    let mut stage = Stage::open(sessions(30, Transport::WebSocket), Topics::default());
    let report = {
        stage.begin();
        for round in 1..=3 {
            stage.publish(1, Duration::ZERO, |_| 0);
            stage.order(&Order::Await { received: round * 30 });
            assert_eq!(stage.answer(), Said::Reached);
        }
        stage.end()
    };
    assert_whole(&report, 90);
    assert_eq!((report.first_sequence, report.last_receipts.len()), (0, 3));
    assert_eq!(entries(&report.connect), 30, "those of the first opening");
}

#[test]
fn who_finds_no_server_tries_again_and_is_told_of() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut stage = Stage::open_at(address, sessions(5, Transport::WebSocket));
    let report = stage.end();
    assert_eq!((report.never_returned, report.state.opened), (5, 0));
    assert!(report.state.refused >= 10, "{:?}", report.state);
    assert_eq!(report.state.reasons.values().sum::<u64>(), report.state.refused);
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n";

/// A server that `serve` plays, once; it ends with the test's process.
fn play(serve: impl FnOnce(TcpListener) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(listener));
    address
}

/// Takes a connection's request and gives it a stream.
fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    stream.write_all(STREAM.as_bytes()).unwrap();
    stream
}

#[test]
fn what_comes_again_late_is_seen() {
    let address = play(|listener| {
        let mut stream = accept(&listener);
        let mut event = b"data: ".to_vec();
        Template::new(PAYLOAD).unwrap().write(&mut event, 0, 0);
        event.extend_from_slice(b"\n\n");
        for _ in 0..2 {
            stream.write_all(&event).unwrap();
            std::thread::park_timeout(Duration::from_millis(200));
        }
        std::thread::park();
    });
    let mut stage = Stage::open_at(address, sessions(1, Transport::Sse));
    stage.pretend(0);
    let found = stage.end().integrity;
    assert_eq!((found.received, found.lost, found.doubled), (1, 0, 1), "{found:?}");
}

#[test]
fn a_cut_connection_is_silent_until_its_session_is_back() {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let address = play(move |listener| {
        let mut first = accept(&listener);
        let (mut second, _) = listener.accept().unwrap();
        first.set_nonblocking(true).unwrap();
        let before = first.read(&mut [0; 1]).map_err(|error| error.kind());
        assert!(second.read(&mut [0; 4096]).unwrap() > 0);
        second.write_all(STREAM.as_bytes()).unwrap();
        first.set_nonblocking(false).unwrap();
        first.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let after = first.read(&mut [0; 1]).map_err(|error| error.kind());
        tell.send((before, after)).unwrap();
        std::thread::park();
    });
    let mut sessions = sessions(1, Transport::Sse);
    sessions.cut = Some(CUT);
    let mut stage = Stage::open_at(address, sessions);
    stage.begin();
    let (before, after) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((before, after), (Err(std::io::ErrorKind::WouldBlock), Ok(0)));
}

#[test]
fn who_is_ended_behind_its_last_words_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answered =
                stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(STREAM.as_bytes()));
            answered.unwrap();
        }
    });
    let mut stage = Stage::open_at(address, sessions(1, Transport::Sse));
    let report = stage.end();
    assert!(report.state.opened >= 2 && report.state.lost >= 1, "{report:?}");
    assert_eq!(report.state.refused, 0, "{report:?}");
}
