//! `/log`: what is logged, and changing it while the node runs.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::{Admin, permit, text_answer};
use crate::http::{Answer, Problem};
use crate::log::{Desk, InForce, LogFilter};

/// The longest body: longer than the longest filter.
const MAX_BODY_BYTES: usize = 8192;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// For how long a filter may hold that goes by itself, in minutes: a week.
const MAX_MINUTES: u64 = 7 * 24 * 60;

/// What the query of a request says.
#[derive(Debug, Default)]
struct Wanted {
    filter: Option<String>,
    span: Option<Duration>,
}

impl Admin {
    /// Says which filter holds, or sets one.
    pub(super) async fn log(&self, request: Request<Incoming>, peer: IpAddr) -> Answer {
        let Some(desk) = &self.log else {
            return Problem::not_found("this node keeps no log of its own").into();
        };
        let told = match *request.method() {
            Method::GET => Ok(desk.control.in_force()),
            Method::POST => self.set_log(desk, request, peer).await,
            _ => Err(Problem::method_not_allowed("GET, POST")),
        };
        told.map_or_else(Answer::from, |in_force| told_as_json(&in_force))
    }

    async fn set_log(
        &self,
        desk: &Desk,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<InForce, Problem> {
        permit::check(self.token.as_ref(), peer, request.headers())?;
        let wanted = Wanted::parse(request.uri().query())?;
        let body = body(request.into_body()).await?;
        let text = match (wanted.filter, body.trim_ascii()) {
            (Some(filter), "") => filter,
            (None, body) => body.to_owned(),
            (Some(_), _) => {
                return Err(Problem::bad_request("a filter is in both the query and the body"));
            }
        };
        let filter = LogFilter::parse(&text)
            .map_err(|fault| Problem::bad_request(format!("the filter {fault}")))?;
        Ok(desk.control.set(filter, wanted.span))
    }
}

impl Wanted {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut wanted = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "filter" => wanted.filter = Some(value.into_owned()),
                "minutes" => {
                    let minutes = value.parse().ok().filter(|n| (1..=MAX_MINUTES).contains(n));
                    let minutes: u64 = minutes.ok_or_else(|| {
                        let text =
                            format!("`minutes` must be a whole number from 1 to {MAX_MINUTES}");
                        Problem::bad_request(text)
                    })?;
                    wanted.span = Some(Duration::from_secs(minutes * 60));
                }
                _ => {
                    return Err(Problem::bad_request(
                        "/log takes nothing but ?filter and ?minutes",
                    ));
                }
            }
        }
        Ok(wanted)
    }
}

async fn body(body: Incoming) -> Result<String, Problem> {
    let whole = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY_BYTES).collect());
    let bytes = match whole.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("body is longer than {MAX_BODY_BYTES} bytes");
            return Err(Problem::too_large(text));
        }
        Ok(Err(error)) => {
            return Err(Problem::bad_request(format!("body can't be read: {error}")).and_close());
        }
        Err(_) => {
            let text = format!("the body took more than {} s", BODY_DEADLINE.as_secs());
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, text).and_close());
        }
    };
    String::from_utf8(bytes.into()).map_err(|_| Problem::bad_request("body is not UTF-8"))
}

fn told_as_json(in_force: &InForce) -> Answer {
    let InForce { filter, then } = in_force;
    let then = then.as_ref().map(|(filter, at)| {
        let left = at.saturating_duration_since(Instant::now());
        serde_json::json!({ "filter": filter.as_str(), "in_seconds": left.as_secs() })
    });
    let text = format!("{}\n", serde_json::json!({ "filter": filter.as_str(), "then": then }));
    text_answer(StatusCode::OK, "application/json", text)
}
