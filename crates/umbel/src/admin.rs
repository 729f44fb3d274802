//! The admin listener: metrics, health, leaving and a page that shows them, on a thread that no
//! session waits for.

mod log;
mod node_metrics;
mod page;
mod permit;
mod registry;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use umbel_broker::Broker;
use umbel_metrics::{Gauge, LabelSet, Transport};

use crate::clock::Clock;
use crate::config::{AdminToken, Settings};
use crate::drain::{Asked, Stage};
use crate::http::{Answer, Problem};
use crate::log::Desk;
use crate::machine;
use crate::trace::Tracer;
use crate::worker::WorkerMetrics;
use node_metrics::NodeMetrics;
pub(crate) use node_metrics::NodeState;
pub(crate) use registry::reference;
use registry::registry;

/// A worker whose event loop hasn't ticked for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// How many admin connections are served at once. Few ask, and none may starve the rest.
const MAX_CONNECTIONS: usize = 64;

/// How long an admin connection may stay.
const CONNECTION_DEADLINE: Duration = Duration::from_mins(5);

/// Answers operators' questions about the node.
pub(crate) struct Admin {
    registry: Registry,
    workers: Vec<Arc<WorkerMetrics>>,
    node: NodeState,
    node_metrics: Arc<NodeMetrics>,
    /// Whether the node is ready also while its broker can't be used.
    ready_without: bool,
    /// Asks the node to leave.
    ask: mpsc::Sender<Asked>,
    token: Option<AdminToken>,
    clock: Clock,
    log: Option<Desk>,
}

impl Admin {
    pub(crate) fn new(
        settings: &Settings,
        workers: Vec<Arc<WorkerMetrics>>,
        node: NodeState,
        ask: mpsc::Sender<Asked>,
        clock: Clock,
    ) -> Self {
        let node_metrics = Arc::<NodeMetrics>::default();
        let broker = match &*node.broker {
            Broker::Redis(redis) => Some(redis.metrics()),
            Broker::Memory(_) => None,
        };
        let rules = settings.topics.labels();
        let name = settings.node_name.clone().unwrap_or_else(machine::name);
        let registry = registry(&name, rules, workers.clone(), node_metrics.clone(), broker);
        Self {
            registry,
            workers,
            node,
            node_metrics,
            ready_without: settings.broker.ready_without,
            ask,
            token: settings.admin_token.clone(),
            clock,
            log: None,
        }
    }

    /// With the process's log, if it keeps one.
    pub(crate) fn with_log(mut self, log: Option<Desk>) -> Self {
        if let Some(log) = &log {
            self.registry
                .register(Box::new(log.counts.clone()))
                .expect("names are constants and differ");
        }
        self.log = log;
        self
    }

    /// With what becomes of the node's traces, if it records any.
    pub(crate) fn with_traces(self, tracer: Option<&Tracer>) -> Self {
        if let Some(tracer) = tracer {
            for counter in tracer.counts().clone().into_counters() {
                self.registry.register(Box::new(counter)).expect("names are constants and differ");
            }
        }
        self
    }

    /// Serves until it is dropped. Returns if the listener fails.
    pub(crate) async fn serve(self, listener: StdListener) -> io::Error {
        let local = LocalSet::new();
        local.run_until(self.accept(listener)).await
    }

    async fn accept(self, listener: StdListener) -> io::Error {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return error,
        };
        let admin = Rc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn_local(admin.clone().connection(stream, peer.ip()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "Admin connection can't be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = admin.revert_log() => unreachable!("watches until it is dropped"),
            }
        }
    }

    /// Has the log's filter change back when that is due. Here, and not where lines are written: that
    /// thread waits for whoever reads them.
    async fn revert_log(&self) {
        match &self.log {
            Some(log) => log.control.revert_in_time().await,
            None => std::future::pending().await,
        }
    }

    async fn connection(self: Rc<Self>, stream: TcpStream, peer: IpAddr) {
        let service = service_fn(|request: Request<Incoming>| {
            let admin = self.clone();
            async move {
                Ok::<_, Infallible>(match request.uri().path() {
                    "/log" => admin.log(request, peer).await,
                    _ => admin.answer(&request, peer),
                })
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        // How a client leaves is its own affair.
        let _ = tokio::time::timeout(CONNECTION_DEADLINE, served).await;
    }

    fn answer(&self, request: &Request<Incoming>, peer: IpAddr) -> Answer {
        match (request.uri().path(), request.method()) {
            ("/drain", &Method::POST) => {
                let permitted = permit::check(self.token.as_ref(), peer, request.headers());
                let asked = match request.uri().query() {
                    None => Asked::Drain,
                    Some("hurry") => Asked::Hurry,
                    Some(_) => {
                        return Problem::bad_request("/drain takes nothing but ?hurry").into();
                    }
                };
                return permitted.map_or_else(Answer::from, |()| self.drain(asked));
            }
            ("/drain", &Method::GET) => return self.stage(StatusCode::OK),
            ("/drain", _) => return Problem::method_not_allowed("GET, POST").into(),
            (_, &Method::GET) => {}
            _ => return Problem::method_not_allowed("GET").into(),
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/livez" => self.live(),
            "/readyz" => self.ready(request.uri().query() == Some("broker")),
            "/debug/sessions" => self.sessions(),
            path => page::answer(path).unwrap_or_else(|| {
                Problem::not_found(format!("there is nothing at {path}")).into()
            }),
        }
    }

    /// Has the node leave, as SIGTERM does. To ask again changes nothing.
    fn drain(&self, asked: Asked) -> Answer {
        tracing::info!(?asked, "Asked by the admin listener");
        match self.ask.try_send(asked) {
            Ok(()) => self.stage(StatusCode::ACCEPTED),
            Err(_) => Problem::unavailable("the node hasn't seen the last request yet").into(),
        }
    }

    fn stage(&self, status: StatusCode) -> Answer {
        let sessions: f64 = self
            .workers
            .iter()
            .flat_map(|worker| worker.sessions_open.iter().map(Gauge::get))
            .sum();
        let stage = self.node.stages.borrow().as_str();
        let text = format!("{}\n", serde_json::json!({ "stage": stage, "sessions": sessions }));
        text_answer(status, "application/json", text)
    }

    fn metrics(&self) -> Answer {
        self.node_metrics.update(&self.node);
        for (worker, silent) in self.workers.iter().zip(self.silent_workers()) {
            worker.silent.set(silent.as_secs_f64());
        }
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => text_answer(StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into(),
        }
    }

    /// The node is ready while it is live, its broker can be used, and it isn't about to leave.
    /// `with_broker` asks for the second also of a node that is to be ready without.
    fn ready(&self, with_broker: bool) -> Answer {
        if *self.node.stages.borrow() > Stage::Serving {
            let text = "the node leaves\n".to_owned();
            return text_answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text);
        }
        match self.node.broker.trouble().filter(|_| with_broker || !self.ready_without) {
            None => self.live(),
            Some(trouble) => {
                let text = format!("{trouble}\n");
                text_answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text)
            }
        }
    }

    /// The node is live while all event loops turn.
    fn live(&self) -> Answer {
        match self.stuck_worker() {
            None => text_answer(StatusCode::OK, "text/plain", "ok\n".to_owned()),
            Some((worker, silent)) => {
                let text = format!("worker {worker} has not ticked for {} s\n", silent.as_secs());
                text_answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text)
            }
        }
    }

    fn stuck_worker(&self) -> Option<(usize, Duration)> {
        self.silent_workers().enumerate().find(|(_, silent)| *silent > STUCK)
    }

    /// For how long each worker's event loop hasn't ticked.
    fn silent_workers(&self) -> impl Iterator<Item = Duration> {
        let now = self.clock.micros();
        let silent = move |worker: &Arc<WorkerMetrics>| {
            Duration::from_micros(now.saturating_sub(worker.last_tick_micros.get()))
        };
        self.workers.iter().map(silent)
    }

    /// Counts per worker; never what clients sent or who they are.
    fn sessions(&self) -> Answer {
        let worker = |metrics: &Arc<WorkerMetrics>| {
            let open = |transport: Transport| metrics.sessions_open[transport.index()].get();
            serde_json::json!({
                "websocket": open(Transport::WebSocket),
                "sse": open(Transport::Sse),
                "subscriptions": metrics.subscriptions.get(),
                "topics": metrics.topics.get(),
            })
        };
        let workers: Vec<_> = self.workers.iter().map(worker).collect();
        let text = format!("{}\n", serde_json::json!({ "workers": workers }));
        text_answer(StatusCode::OK, "application/json", text)
    }
}

fn text_answer(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(text.into_bytes().into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;
    use crate::budget::Budget;
    use crate::drain::Leaving;

    #[test]
    fn a_worker_that_does_not_tick_makes_the_node_unhealthy() {
        let workers: Vec<_> = (0..2).map(|_| Arc::<WorkerMetrics>::default()).collect();
        let long_ago = Clock::started_before(STUCK * 2);
        let settings = Settings::default();
        let leaving = Leaving::new(settings.drain);
        let node = NodeState {
            broker: Arc::new(Broker::Memory(umbel_broker::MemoryBroker::new([], 0))),
            admission: Arc::new(Admission::new(&settings.limits, 1000)),
            budget: Arc::new(Budget::new(1 << 30, 0, 0, 2)),
            stages: leaving.stages(),
            asked: leaving.asked(),
            planned: settings.drain.planned(),
        };
        let (ask, _) = mpsc::channel(1);
        let admin = Admin::new(&settings, workers.clone(), node, ask, long_ago);
        workers[0].last_tick_micros.set(long_ago.micros());
        assert_eq!(admin.live().status(), StatusCode::SERVICE_UNAVAILABLE, "worker 1 never ticked");
        assert_eq!(admin.stuck_worker().map(|(worker, _)| worker), Some(1));
        admin.metrics();
        assert!(workers[0].silent.get() < 1.0 && workers[1].silent.get() > STUCK.as_secs_f64());
        workers[1].last_tick_micros.set(long_ago.micros());
        assert_eq!(admin.live().status(), StatusCode::OK);
        // A worker that has ended, when the node leaves.
        workers[1].last_tick_micros.set(u64::MAX);
        assert_eq!(admin.live().status(), StatusCode::OK);
    }
}
