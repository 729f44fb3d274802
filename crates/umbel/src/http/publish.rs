//! `POST /topics/{topic}` and `POST /publish`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode, Version};
use umbel_broker::{History, Publish, PublishError, Published};
use umbel_protocol::publish::{self, BodyError, Form, Item, Refused};
use umbel_protocol::{
    Delivery, EventName, IdempotencyKey, Message, MessageId, Payload, PayloadKind, SessionId,
    Topic, TraceParent,
};

use super::connection::{LINGER, LINGER_BYTES};
use super::publish_count::{Asked, HandedOver};
use super::service::Exchange;
use super::subscribe::path_topics;
use super::{Answer, Problem};
use crate::authorise::{Action, Forbidden, Principal};
use crate::config::TopicRule;
use crate::ledger::Charge;
use crate::trace::{Outcome, Publishing};
use crate::worker::{Held, Limit, Source, Worker};

/// What became of one of many messages.
type PublishResult = Result<(Topic, Option<MessageId>), Refused>;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Publishes the body as one message.
pub(super) async fn topic(mut exchange: Exchange, names: &str) -> Answer {
    let asked = Asked::begin(&exchange.worker);
    let answer = exchange.publish_one(names).await.unwrap_or_else(Answer::from);
    exchange.pass_over_body().await;
    asked.answered(answer.status());
    answer
}

/// Publishes what the body lists.
pub(super) async fn many(mut exchange: Exchange) -> Answer {
    let asked = Asked::begin(&exchange.worker);
    let answer = exchange.publish_many().await.unwrap_or_else(Answer::from);
    exchange.pass_over_body().await;
    asked.answered(answer.status());
    answer
}

impl Exchange {
    async fn publish_one(&mut self, names: &str) -> Result<Answer, Problem> {
        let topics = path_topics(names)?;
        let [topic] = <[Topic; 1]>::try_from(topics).map_err(|topics| {
            Problem::bad_request(format!(
                "{} topics are named, a message is published to one",
                topics.len()
            ))
        })?;
        let worker = self.worker.clone();
        let rule = worker
            .may_publish(&topic)
            .await
            .map_err(|forbidden| Problem::forbidden(forbidden.to_string()))?;
        // Only now: what nobody may do makes no span.
        let given = traceparent(self.request.headers());
        let tracer = worker.tracer.as_ref();
        let publishing = tracer.and_then(|tracer| Publishing::begin(tracer, given, &topic));
        let trace = publishing.as_ref().map(Publishing::parent);
        let published = self.publish_to(&topic, rule, trace).await;
        if let Some(publishing) = publishing {
            publishing.end(match &published {
                Ok(published) => Outcome::published(published),
                Err(problem) => Outcome::failed(problem.detail()),
            });
        }
        let Published { id, receivers } = published?;
        let id = id.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
        let json = format!("{{\"topic\":\"{topic}\",\"id\":{id},\"receivers\":{receivers}}}\n");
        Ok(json_answer("application/json", json.into_bytes()))
    }

    async fn publish_to(
        &mut self,
        topic: &Topic,
        rule: &TopicRule,
        trace: Option<TraceParent>,
    ) -> Result<Published, Problem> {
        let headers = self.request.headers();
        let event = event_name(headers)?;
        let origin = origin(headers)?;
        let key = idempotency_key(headers)?;
        let declared = declared_kind(headers.get(CONTENT_TYPE))?;
        let worker = self.worker.clone();
        let (body, _held) = self.body(worker.limits.payload_bytes).await?;
        let payload = payload(declared, body, rule)?;
        let mut message = Worker::message(topic.clone(), payload, event, origin);
        message.trace = trace.map(Box::new);
        let publish = worker.to_publish(message, rule.history, key);
        match worker.publish_http(vec![publish]).await.pop() {
            Some(published) => published.map_err(|error| Problem::not_published(&error)),
            None => unreachable!("the broker gives a result for each message"),
        }
    }

    async fn publish_many(&mut self) -> Result<Answer, Problem> {
        if self.request.headers().contains_key("idempotency-key") {
            let text = "Idempotency-Key: a key belongs to one message, give each a `key`";
            return Err(Problem::bad_request(text));
        }
        let lines = is_ndjson(self.request.headers().get(CONTENT_TYPE));
        let worker = self.worker.clone();
        let (body, _held) = self.body(worker.limits.body_bytes).await?;
        let publishes = publish::parse(&body, lines).map_err(|error| match error {
            BodyError::TooMany => Problem::too_large(error.to_string()),
            BodyError::Malformed(_) | BodyError::Empty => Problem::bad_request(error.to_string()),
        })?;
        let trace = worker.tracer.as_ref().and_then(|_| traceparent(self.request.headers()));
        let results = worker.publish_items(publishes.items, trace).await;
        let unavailable =
            |result: &&PublishResult| result.as_ref().is_err_and(|refused| refused.status == 503);
        if results.iter().all(|result| unavailable(&result)) {
            return Err(Problem::unavailable("no message could be published"));
        }
        Ok(written(&results, publishes.form))
    }

    /// Reads what is left of the body of a request that was refused, so that the client gets to see
    /// why: over HTTP/2 the stream of a request that isn't over would be reset behind the answer,
    /// which some clients take for its failure. Over HTTP/1 the connection sees to it.
    pub(super) async fn pass_over_body(&mut self) {
        if self.request.version() == Version::HTTP_2 && !self.request.body().is_end_stream() {
            // However far it gets, the answer follows.
            let _ = tokio::time::timeout(LINGER, pass_over(self.request.body_mut())).await;
        }
    }

    /// The whole body, if it is within the limit and comes in time. It is counted until the charge is
    /// dropped.
    async fn body(&mut self, limit: usize) -> Result<(Bytes, Charge), Problem> {
        let worker = self.worker.clone();
        let mut charge = Charge::new(&worker.ledger, Held::Bodies, 0);
        let has_room = || !worker.is_over_share(Held::Bodies);
        let reading = read_body(self.request.body_mut(), limit, &mut charge, has_room);
        let read = tokio::time::timeout(BODY_DEADLINE, reading).await;
        let (limit, problem) = match read {
            Ok(Ok(body)) => return Ok((body, charge)),
            Ok(Err(BodyFault::TooLarge)) => {
                let text = format!("body is longer than {limit} bytes");
                (Limit::Size, Problem::too_large(text))
            }
            Ok(Err(BodyFault::NoRoom)) => {
                (Limit::Memory, Problem::unavailable("the node is short of memory for bodies"))
            }
            Ok(Err(BodyFault::Broken(error))) => {
                return Err(Problem::bad_request(format!("body can't be read: {error}")));
            }
            Err(_) => {
                let text = format!("the body took more than {} s", BODY_DEADLINE.as_secs());
                (Limit::BodyTime, Problem::new(StatusCode::REQUEST_TIMEOUT, text))
            }
        };
        worker.metrics.limited.of(limit).add(1);
        Err(problem.and_close())
    }
}

async fn pass_over(body: &mut Incoming) {
    let mut passed = 0;
    while passed < LINGER_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        passed += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Why a body couldn't be had.
enum BodyFault {
    TooLarge,
    NoRoom,
    Broken(hyper::Error),
}

async fn read_body(
    body: &mut Incoming,
    limit: usize,
    charge: &mut Charge,
    has_room: impl Fn() -> bool,
) -> Result<Bytes, BodyFault> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyFault::TooLarge);
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(BodyFault::Broken)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            return Err(BodyFault::TooLarge);
        }
        // Copied, since the connection's buffer would live as long as the message.
        whole.extend_from_slice(data);
        charge.add(data.len());
        if !has_room() {
            return Err(BodyFault::NoRoom);
        }
    }
    Ok(whole.into())
}

impl Worker {
    async fn may_publish(&self, topic: &Topic) -> Result<&TopicRule, Forbidden> {
        self.door.authorise(&Principal::Anonymous, Action::Publish, topic).await
    }

    /// Publishes those that may be, all at once and in order; a result for each. `trace` is what was
    /// said of all.
    async fn publish_items(
        &self,
        items: Vec<Result<Item, Refused>>,
        trace: Option<TraceParent>,
    ) -> Vec<PublishResult> {
        let mut messages = Vec::with_capacity(items.len());
        let mut checked = Vec::with_capacity(items.len());
        // Each that is recorded, with its place among the messages.
        let mut recorded: Vec<(usize, Publishing)> = Vec::new();
        for item in items {
            let own = item.as_ref().ok().and_then(|item| item.trace).or(trace);
            let message = match item {
                Ok(item) => self.check_item(item).await,
                Err(refused) => Err(refused),
            };
            checked.push(message.map(|mut publish| {
                let message = &mut publish.delivery.message;
                let topic = message.topic.clone();
                let tracer = self.tracer.as_ref();
                let begun = tracer.and_then(|tracer| Publishing::begin(tracer, own, &topic));
                if let Some(publishing) = begun {
                    message.trace = Some(Box::new(publishing.parent()));
                    recorded.push((messages.len(), publishing));
                }
                messages.push(publish);
                topic
            }));
        }
        let outcomes = self.publish_http(messages).await;
        for (at, publishing) in recorded {
            publishing.end(Outcome::of(&outcomes[at]));
        }
        let mut outcomes = outcomes.into_iter();
        let mut result = |topic: Topic| match outcomes.next() {
            Some(Ok(published)) => Ok((topic, published.id)),
            Some(Err(error)) => {
                let status = Problem::not_published(&error).status().as_u16();
                let topic = Some(topic.to_string());
                Err(Refused { topic, status, error: error.to_string() })
            }
            None => unreachable!("the broker gives a result for each message"),
        };
        checked.into_iter().map(|topic| topic.and_then(&mut result)).collect()
    }

    async fn check_item(&self, item: Item) -> Result<Publish, Refused> {
        let Item { topic, payload, event, key, trace: _ } = item;
        let refused =
            |status, error: String| Refused { topic: Some(topic.to_string()), status, error };
        let (bytes, limit) = (payload.bytes().len(), self.limits.payload_bytes);
        if bytes > limit {
            self.metrics.limited.of(Limit::Size).add(1);
            return Err(refused(
                413,
                format!("payload is {bytes} bytes, at most {limit} are allowed"),
            ));
        }
        let rule = match self.may_publish(&topic).await {
            Ok(rule) => rule,
            Err(forbidden) => return Err(refused(403, forbidden.to_string())),
        };
        let payload = rule.fit(payload).map_err(|error| refused(400, error.to_string()))?;
        let history = rule.history;
        Ok(self.to_publish(Worker::message(topic, payload, event, None), history, key))
    }

    fn message(
        topic: Topic,
        payload: Payload,
        event: Option<EventName>,
        origin: Option<SessionId>,
    ) -> Message {
        let published = umbel_broker::wall();
        Message { topic, payload, event, published, origin, id: None, trace: None }
    }

    fn to_publish(
        &self,
        message: Message,
        history: Option<History>,
        key: Option<IdempotencyKey>,
    ) -> Publish {
        let received = self.clock.micros();
        Publish { delivery: Delivery { message, received, bare: false, life: 0 }, history, key }
    }

    async fn publish_http(&self, messages: Vec<Publish>) -> Vec<Result<Published, PublishError>> {
        let handed_over = HandedOver::begin(self);
        let results = self.broker.publish_all(messages).await;
        drop(handed_over);
        let published = results.iter().filter(|result| result.is_ok()).count();
        self.metrics.messages_in.of(Source::Http).add(published as u64);
        results
    }
}

fn event_name(headers: &HeaderMap) -> Result<Option<EventName>, Problem> {
    let Some(value) = headers.get("umbel-event") else {
        return Ok(None);
    };
    let name = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Problem::bad_request("Umbel-Event is not UTF-8"))?;
    let event = EventName::new(name)
        .map_err(|error| Problem::bad_request(format!("Umbel-Event: {error}")))?;
    Ok(Some(event))
}

/// Where in a trace the request comes from. What can't be read, or is said twice, isn't there.
fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all("traceparent").iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()?.parse().ok()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Problem::bad_request("Idempotency-Key is not UTF-8"))?;
    let key = IdempotencyKey::new(text)
        .map_err(|error| Problem::bad_request(format!("Idempotency-Key: {error}")))?;
    Ok(Some(key))
}

fn origin(headers: &HeaderMap) -> Result<Option<SessionId>, Problem> {
    let Some(value) = headers.get("umbel-origin") else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    let id = parsed.ok_or_else(|| {
        Problem::bad_request("Umbel-Origin: session id is not 16 hexadecimal digits")
    })?;
    Ok(Some(id))
}

/// The kind that a Content-Type declares; `None` if it says nothing about it.
fn declared_kind(content_type: Option<&HeaderValue>) -> Result<Option<PayloadKind>, Problem> {
    let Some(value) = content_type else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| Problem::bad_request("Content-Type is not ASCII"))?
        .to_ascii_lowercase();
    let (essence, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let kind = match essence.trim() {
        // What curl and HTML forms say unless told otherwise.
        "" | "application/x-www-form-urlencoded" => return Ok(None),
        "application/json" => PayloadKind::Json,
        json if json.ends_with("+json") => PayloadKind::Json,
        text if text.starts_with("text/") => PayloadKind::Text,
        _ => return Ok(Some(PayloadKind::Binary)),
    };
    match charset(parameters) {
        None | Some("utf-8" | "utf8" | "us-ascii") => Ok(Some(kind)),
        Some(other) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("charset {other} is not supported, send UTF-8"),
        )),
    }
}

fn charset(parameters: &str) -> Option<&str> {
    let named = |parameter: &str| parameter.trim_ascii().starts_with("charset=");
    let parameter = parameters.split(';').find(|parameter| named(parameter))?;
    let (_, value) = parameter.split_once('=')?;
    Some(value.trim_ascii().trim_matches('"'))
}

fn is_ndjson(content_type: Option<&HeaderValue>) -> bool {
    let Some(text) = content_type.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = text.split(';').next().unwrap_or_default().trim_ascii();
    ["application/x-ndjson", "application/ndjson", "application/jsonl"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

fn payload(
    declared: Option<PayloadKind>,
    body: Bytes,
    rule: &TopicRule,
) -> Result<Payload, Problem> {
    let payload = match declared {
        Some(kind) => Payload::new(kind, body),
        None => Ok(Payload::sniffed(body)),
    };
    let fitted = payload.and_then(|payload| rule.fit(payload));
    fitted.map_err(|error| Problem::bad_request(error.to_string()))
}

fn written(results: &[PublishResult], form: Form) -> Answer {
    let mut out = Vec::with_capacity(results.len() * 48);
    let separator = match form {
        Form::Object | Form::Lines => b'\n',
        Form::Array => b',',
    };
    if form == Form::Array {
        out.push(b'[');
    }
    for (at, result) in results.iter().enumerate() {
        if at > 0 {
            out.push(separator);
        }
        publish::write_result(&mut out, result.as_ref().map(|(topic, id)| (topic, *id)));
    }
    if form == Form::Array {
        out.push(b']');
    }
    out.push(b'\n');
    let content_type = match form {
        Form::Object | Form::Array => "application/json",
        Form::Lines => "application/x-ndjson",
    };
    json_answer(content_type, out)
}

fn json_answer(content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(body.into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_declare_kinds() {
        use PayloadKind::{Binary, Json, Text};
        for (content_type, kind) in [
            ("application/json", Some(Json)),
            ("application/json; charset=utf-8", Some(Json)),
            ("Application/LD+JSON", Some(Json)),
            ("text/plain", Some(Text)),
            ("text/plain;charset=\"UTF-8\"", Some(Text)),
            ("text/html; boundary=x; charset=us-ascii", Some(Text)),
            ("application/octet-stream", Some(Binary)),
            ("image/png; charset=latin1", Some(Binary)),
            ("application/x-www-form-urlencoded", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(content_type);
            assert_eq!(declared_kind(Some(&value)).unwrap(), kind, "{content_type}");
        }
        assert_eq!(declared_kind(None).unwrap(), None);
        let latin = HeaderValue::from_static("text/plain; charset=iso-8859-1");
        assert!(declared_kind(Some(&latin)).is_err());
    }

    #[test]
    fn ndjson_is_known_by_its_types() {
        for (content_type, expected) in [
            ("application/x-ndjson", true),
            ("application/NDJSON; charset=utf-8", true),
            ("application/json", false),
        ] {
            assert_eq!(is_ndjson(Some(&HeaderValue::from_static(content_type))), expected);
        }
        assert!(!is_ndjson(None));
    }
}
