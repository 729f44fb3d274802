//! The admin listener: metrics and health, on a thread that no session waits for.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::process_collector::ProcessCollector;
use prometheus::{Gauge, IntGauge, Opts, Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};
use umbel_broker::Broker;
use umbel_metrics::{LabelSet, Merged, Transport};

use crate::clock::Clock;
use crate::http::{Answer, Problem};
use crate::worker::{WorkerMetrics, families};

/// A worker whose event loop hasn't ticked for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// How many admin connections are served at once. Few ask, and none may starve the rest.
const MAX_CONNECTIONS: usize = 64;

/// How long an admin connection may stay.
const CONNECTION_DEADLINE: Duration = Duration::from_mins(5);

/// Answers operators' questions about the node.
pub(crate) struct Admin {
    registry: Registry,
    allocator: Allocator,
    workers: Vec<Arc<WorkerMetrics>>,
    broker: Arc<Broker>,
    /// Whether the node is ready also while its broker can't be used.
    ready_without: bool,
    clock: Clock,
}

/// What jemalloc says of itself.
struct Allocator {
    allocated: IntGauge,
    resident: IntGauge,
}

impl Admin {
    pub(crate) fn new(
        workers: Vec<Arc<WorkerMetrics>>,
        broker: Arc<Broker>,
        ready_without: bool,
        clock: Clock,
    ) -> Self {
        let registry = Registry::new();
        let register = |collector| {
            registry.register(collector).expect("names are constants and differ");
        };
        register(Box::new(Merged::new(families(), workers.clone())));
        if let Broker::Redis(redis) = &*broker {
            let metrics = vec![redis.metrics()];
            register(Box::new(Merged::new(umbel_broker::families(), metrics)));
        }
        register(Box::new(ProcessCollector::for_self()));
        register(Box::new(build_info()));
        let allocator = Allocator::new();
        register(Box::new(allocator.allocated.clone()));
        register(Box::new(allocator.resident.clone()));
        Self { registry, allocator, workers, broker, ready_without, clock }
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
                    Ok((stream, _)) => {
                        connections.spawn_local(admin.clone().connection(stream));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "Admin connection can't be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn connection(self: Rc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        // How a client leaves is its own affair.
        let _ = tokio::time::timeout(CONNECTION_DEADLINE, served).await;
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        if request.method() != Method::GET {
            return Problem::method_not_allowed("GET").into();
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/livez" => self.live(),
            "/readyz" => self.ready(),
            "/debug/sessions" => self.sessions(),
            path => Problem::not_found(format!("there is nothing at {path}")).into(),
        }
    }

    fn metrics(&self) -> Answer {
        self.allocator.update();
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => text_answer(StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into(),
        }
    }

    /// The node is ready while it is live and its broker can be used.
    fn ready(&self) -> Answer {
        match self.broker.trouble().filter(|_| !self.ready_without) {
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
        let now = self.clock.micros();
        let silent = |worker: &Arc<WorkerMetrics>| {
            Duration::from_micros(now.saturating_sub(worker.last_tick_micros.get()))
        };
        self.workers.iter().map(silent).enumerate().find(|(_, silent)| *silent > STUCK)
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

impl Allocator {
    fn new() -> Self {
        let gauge = |name, help| IntGauge::new(name, help).expect("names are constants");
        Self {
            allocated: gauge(
                "umbel_allocator_allocated_bytes",
                "Memory that the program has asked for and not given back.",
            ),
            resident: gauge(
                "umbel_allocator_resident_bytes",
                "Memory that the allocator holds for it in RAM.",
            ),
        }
    }

    /// Statistics are of the last epoch, so a new one is begun. Without jemalloc they stay 0.
    fn update(&self) {
        use tikv_jemalloc_ctl::{epoch, stats};
        let gauge = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        if epoch::advance().is_ok() {
            self.allocated.set(stats::allocated::read().map_or(0, gauge));
            self.resident.set(stats::resident::read().map_or(0, gauge));
        }
    }
}

fn build_info() -> Gauge {
    let options = Opts::new("umbel_build_info", "1, labelled with the version.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let gauge = Gauge::with_opts(options).expect("name and label are constants");
    gauge.set(1.0);
    gauge
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

    #[test]
    fn a_worker_that_does_not_tick_makes_the_node_unhealthy() {
        let workers: Vec<_> = (0..2).map(|_| Arc::<WorkerMetrics>::default()).collect();
        let long_ago = Clock::started_before(STUCK * 2);
        let broker = Arc::new(Broker::Memory(umbel_broker::MemoryBroker::new([], 0)));
        let admin = Admin::new(workers.clone(), broker, false, long_ago);
        workers[0].last_tick_micros.set(long_ago.micros());
        assert_eq!(admin.live().status(), StatusCode::SERVICE_UNAVAILABLE, "worker 1 never ticked");
        assert_eq!(admin.stuck_worker().map(|(worker, _)| worker), Some(1));
        workers[1].last_tick_micros.set(long_ago.micros());
        assert_eq!(admin.live().status(), StatusCode::OK);
    }
}
