//! A node with history, a holder that has sessions on it, and a publisher.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use umbel_loadtest::bench::server::{Program, Server};
use umbel_loadtest::load::target::Target;
use umbel_loadtest::load::{Deaf, Load, Manner, Waited, clock};
use umbel_loadtest::wire::subscribe::Dialect;
use umbel_loadtest::work::file::{Sessions, Topics, Transport};
use umbel_loadtest::work::orders::{Opening, Order, Place, Report, Said, State};

/// How long a holder has for an answer.
const ANSWER: Duration = Duration::from_secs(20);
pub(crate) const PAYLOAD: usize = 64;
const SETTINGS: &str = "[[topics]]\nmatch = \"**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n\
                        history = { messages = 1000, seconds = 300 }\n";

/// Sessions that do nothing special.
pub(crate) fn sessions(count: usize, transport: Transport) -> Sessions {
    Sessions {
        count,
        transport,
        processes: None,
        open_per_second: 5000.0,
        concurrency: 64,
        resume: false,
        slow: None,
        cut: None,
        churn: None,
        storm: None,
    }
}

/// Sessions that name their place when they come back.
pub(crate) fn resuming(count: usize, transport: Transport) -> Sessions {
    Sessions { resume: true, ..sessions(count, transport) }
}

/// All of it; dropping it ends all processes.
pub(crate) struct Stage {
    holder: Child,
    said: Receiver<Said>,
    node: Option<(Server, Load)>,
    published: Vec<u64>,
}

impl Stage {
    /// All sessions are open.
    pub(crate) fn open(sessions: Sessions, topics: Topics) -> Self {
        let node = start_node();
        let manner = Manner {
            target: Target::of_server(node.address(), Dialect::WebSocket),
            payload_bytes: PAYLOAD,
            concurrency: 1,
            patience: ANSWER,
        };
        let (address, load) = (node.address(), Load::new(&manner).unwrap());
        let mut stage = Self::start(address, Some((node, load)), sessions, topics);
        let count = stage.opened();
        assert_eq!((count.open, count.opened, count.refused), (count.opened, count.open, 0));
        stage
    }

    /// At a server that isn't a node; all were tried.
    pub(crate) fn open_at(address: SocketAddr, sessions: Sessions) -> Self {
        let mut stage = Self::start(address, None, sessions, Topics::default());
        stage.opened();
        stage
    }

    fn start(
        address: SocketAddr,
        node: Option<(Server, Load)>,
        sessions: Sessions,
        topics: Topics,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
        command.arg("hold-work").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        let (say, said) = sync_channel(256);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if say.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut stage = Self { holder, said, node, published: Vec::new() };
        let place = Place { address, host: address.to_string(), path: String::new() };
        stage.order(&Order::Open(Box::new(Opening {
            first: 0,
            count: sessions.count,
            sessions,
            topics,
            holders: 1,
            places: vec![place],
            script: None,
            first_source: umbel_loadtest::os::source_addresses::any(),
            payload_bytes: PAYLOAD,
            patience_seconds: 1.0,
        })));
        stage
    }

    pub(crate) fn order(&mut self, order: &Order) {
        let mut line = serde_json::to_vec(order).unwrap();
        line.push(b'\n');
        self.holder.stdin.as_mut().unwrap().write_all(&line).unwrap();
    }

    /// The window has begun.
    pub(crate) fn begin(&mut self) {
        self.order(&Order::Begin);
        self.order(&Order::Await { received: 0 });
        assert_eq!(self.answer(), Said::Reached);
    }

    /// The next that isn't its state.
    pub(crate) fn answer(&mut self) -> Said {
        let deadline = Instant::now() + ANSWER;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left).unwrap() {
                Said::State(_) => {}
                said => return said,
            }
        }
    }

    fn opened(&mut self) -> State {
        match self.answer() {
            Said::Opened(state) => state,
            other => panic!("{other:?}"),
        }
    }

    /// How it is now.
    pub(crate) fn state(&mut self) -> State {
        while self.said.try_recv().is_ok() {}
        match self.said.recv_timeout(ANSWER).unwrap() {
            Said::State(state) => state,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes `count` messages, one by one and so far apart.
    pub(crate) fn publish(
        &mut self,
        count: usize,
        pause: Duration,
        topic_of: impl Fn(usize) -> usize,
    ) {
        let (_, load) = self.node.as_mut().unwrap();
        let begun = Instant::now();
        for number in 0..count {
            let topic = topic_of(number);
            let due = begun + pause * u32::try_from(number).unwrap();
            load.wait_for(due, &mut Deaf).unwrap();
            load.add(topic, clock::nanos());
            load.post().unwrap();
            let answered = load.wait_until(&mut Deaf, |_, publisher| !publisher.waiting()).unwrap();
            assert_eq!(answered, Waited::Done);
            self.published.resize(self.published.len().max(topic + 1), 0);
            self.published[topic] += 1;
        }
    }

    /// One more message of `topic` counts as published, which nobody gets.
    pub(crate) fn pretend(&mut self, topic: usize) {
        self.published.resize(self.published.len().max(topic + 1), 0);
        self.published[topic] += 1;
    }

    /// What came of it all.
    pub(crate) fn end(&mut self) -> Report {
        let published = self.published.clone();
        self.order(&Order::End { published });
        let report = match self.answer() {
            Said::Report(report) => *report,
            other => panic!("{other:?}"),
        };
        self.order(&Order::Close);
        assert!(self.holder.wait().unwrap().success());
        report
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It has ended, or a test has failed.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The node that cargo builds beside the tests, as an example of this package.
fn start_node() -> Server {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let program = Path::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
    let node = program.with_file_name("examples").join("fleet_node");
    assert!(node.exists(), "{} is missing: cargo test --examples builds it", node.display());
    let name = format!("work-holder-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let at = |suffix: &str| -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{suffix}"))
    };
    std::fs::write(at("toml"), SETTINGS).unwrap();
    let program = Program::node(&node, Some(1), &[], None, Some(&at("toml"))).unwrap();
    Server::start(program, &at("log"), || Ok(())).unwrap()
}
