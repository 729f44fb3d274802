//! `POST /publish` with one JSON object per line.

use std::fmt::Write;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;

use super::topics::Topics;
use super::{Body, status, whole};

#[derive(Deserialize)]
struct Message {
    topic: String,
    text: String,
}

/// Hands each line's text to its topic.
pub(super) async fn publish(request: Request<Incoming>, topics: &Topics) -> Response<Body> {
    let Ok(body) = request.into_body().collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let body = body.to_bytes();
    let lines = serde_json::Deserializer::from_slice(&body).into_iter::<Message>();
    let mut results = String::new();
    for message in lines {
        let Ok(Message { topic, text }) = message else {
            return status(StatusCode::BAD_REQUEST);
        };
        topics.publish(&topic, Bytes::from(text));
        let _ = writeln!(results, r#"{{"topic":"{topic}","id":null}}"#);
    }
    Response::new(whole(results))
}
