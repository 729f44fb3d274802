//! Spans as OTLP has them, in JSON.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>: ids are hexadecimal, numbers of
//! 64 bits are text. Attributes have the names of the conventions for messaging where there is one.

use serde_json::{Value, json};

use super::span::{FanOut, Span, Work};

/// Who records.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    /// The node's name.
    pub(super) node: String,
}

/// OTLP's numbers.
const KIND_INTERNAL: u8 = 1;
const KIND_SERVER: u8 = 2;
const KIND_CONSUMER: u8 = 5;
const STATUS_OK: u8 = 1;
const STATUS_ERROR: u8 = 2;

/// The body of one export.
pub(super) fn body(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = [
        text("service.name", "umbel"),
        text("service.version", version),
        text("service.instance.id", &resource.node),
    ];
    let spans: Vec<_> = spans.iter().map(span).collect();
    let scope = json!({ "name": "umbel", "version": version });
    let scopes = [json!({ "scope": scope, "spans": spans })];
    let resources = [json!({ "resource": { "attributes": attributes }, "scopeSpans": scopes })];
    json!({ "resourceSpans": resources }).to_string().into_bytes()
}

/// How many spans the collector says that it didn't take, in its answer.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let rejected = &answer["partialSuccess"]["rejectedSpans"];
    let as_text = rejected.as_str().and_then(|text| text.parse().ok());
    rejected.as_u64().or(as_text).unwrap_or(0)
}

fn span(span: &Span) -> Value {
    let mut attributes = vec![
        text("messaging.system", "umbel"),
        text("messaging.destination.name", span.topic.as_str()),
    ];
    let (name, kind, status) = match &span.work {
        Work::Publish(outcome) => {
            let receivers = outcome.receivers.map(|count| number("umbel.receivers", count));
            attributes.extend(receivers);
            let status = match &outcome.error {
                None => json!({ "code": STATUS_OK }),
                Some(error) => json!({ "code": STATUS_ERROR, "message": error }),
            };
            ("publish", KIND_SERVER, status)
        }
        Work::Receive => ("receive", KIND_CONSUMER, json!({})),
        Work::FanOut(FanOut { worker, subscriptions, .. }) => {
            attributes.push(number("umbel.worker", *worker as u64));
            attributes.push(number("umbel.subscriptions", *subscriptions as u64));
            ("fan_out", KIND_INTERNAL, json!({}))
        }
    };
    let parent = span.parent.map_or_else(String::new, |parent| parent.to_string());
    json!({
        "traceId": span.trace.to_string(),
        "spanId": span.id.to_string(),
        "parentSpanId": parent,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes,
        "status": status,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_protocol::{Topic, TraceParent};

    #[test]
    fn a_span_s_json_is_this() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let own: TraceParent = text.parse().unwrap();
        let topic = Topic::new("a").unwrap();
        let work = Work::FanOut(FanOut { worker: 3, subscriptions: 9, age: 0 });
        let (trace, id) = (own.trace, own.span);
        let span = Span { trace, id, parent: Some(id), start: 1, end: u64::MAX, topic, work };
        let body = body(&Resource { node: "edge-1".to_owned() }, &[span]);
        let body: Value = serde_json::from_slice(&body).unwrap();
        let resource = &body["resourceSpans"][0];
        assert_eq!(
            resource["resource"]["attributes"][2],
            json!({"key": "service.instance.id", "value": {"stringValue": "edge-1"}}),
        );
        assert_eq!(
            resource["scopeSpans"][0]["spans"][0],
            json!({
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                "spanId": "00f067aa0ba902b7",
                "parentSpanId": "00f067aa0ba902b7",
                "name": "fan_out",
                "kind": 1,
                "startTimeUnixNano": "1",
                "endTimeUnixNano": "18446744073709551615",
                "attributes": [
                    {"key": "messaging.system", "value": {"stringValue": "umbel"}},
                    {"key": "messaging.destination.name", "value": {"stringValue": "a"}},
                    {"key": "umbel.worker", "value": {"intValue": "3"}},
                    {"key": "umbel.subscriptions", "value": {"intValue": "9"}},
                ],
                "status": {},
            }),
        );
    }

    #[test]
    fn what_the_collector_rejects_is_read_from_its_answer() {
        for (answer, expected) in [
            (&b""[..], 0),
            (b"{}", 0),
            (b"{\"partialSuccess\":{\"rejectedSpans\":\"7\",\"errorMessage\":\"x\"}}", 7),
            (b"{\"partialSuccess\":{\"rejectedSpans\":7}}", 7),
            (b"\x0a\x00", 0),
        ] {
            assert_eq!(rejected(answer), expected, "{answer:?}");
        }
    }
}
