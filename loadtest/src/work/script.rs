//! Scripts: what is said to a server of another make, in TOML, so that the same scenario loads it.
//!
//! A script has the words of its protocol and no logic. Sessions send each step and wait for what answers it;
//! messages are known by their payload, wherever it is in a frame.

mod publish;
mod words;

use anyhow::Result;
use serde::Deserialize;

pub use self::publish::{PAYLOAD, ScriptPublish};
pub use self::words::NotEmpty;
use self::words::{Header, Path};

/// What stands for a topic's name.
pub const TOPIC: &str = "{topic}";

/// How one kind of server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Script {
    /// Path of the request that opens a session, with `{topic}`.
    pub path: String,
    /// What sessions are.
    pub transport: ScriptTransport,
    /// Headers of that request, each `Name: value`.
    pub headers: Vec<String>,
    /// Frames are sent as binary ones.
    pub binary: bool,
    /// Frames are one stream of bytes: what is looked for may begin in one and end in the next.
    pub stream: bool,
    /// What is said once the connection is up, in this order.
    pub steps: Vec<Step>,
    /// What is answered at any time.
    pub answers: Vec<ScriptAnswer>,
    /// How messages are published, if the script says that.
    publish: Option<ScriptPublish>,
}

/// What sessions of a script are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScriptTransport {
    /// WebSocket; steps and answers are frames.
    #[default]
    WebSocket,
    /// An event stream, which takes no words.
    Sse,
}

/// One thing to say, one to wait for, or both.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is sent, with `{topic}`.
    pub send: Option<String>,
    /// The step is over with a frame that contains this, with `{topic}`.
    pub wait: Option<NotEmpty>,
}

/// What keeps a session alive: something heard, and what is said to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptAnswer {
    /// A frame that contains this is answered.
    pub on: NotEmpty,
    /// What is sent, with `{topic}`.
    pub send: String,
    /// A frame is answered only if it is this and nothing else.
    #[serde(default)]
    pub exact: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    path: Path,
    #[serde(default)]
    transport: ScriptTransport,
    subprotocol: Option<NotEmpty>,
    #[serde(default)]
    headers: Vec<Header>,
    #[serde(default)]
    binary: bool,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    answers: Vec<ScriptAnswer>,
    publish: Option<ScriptPublish>,
}

impl Script {
    /// Reads a script. An error names the line and the key.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// How its messages are published, if it says that.
    pub fn publishing(&self) -> Option<&ScriptPublish> {
        self.publish.as_ref()
    }
}

impl TryFrom<Unchecked> for Script {
    type Error = String;

    fn try_from(read: Unchecked) -> Result<Self, Self::Error> {
        let mut headers: Vec<_> = read.headers.into_iter().map(|header| header.0).collect();
        if let Some(subprotocol) = &read.subprotocol {
            let header = format!("Sec-WebSocket-Protocol: {}", subprotocol.as_str());
            headers.push(Header::try_from(header)?.0);
        }
        let words = [
            ("subprotocol", read.subprotocol.is_some()),
            ("binary", read.binary),
            ("stream", read.stream),
            ("steps", !read.steps.is_empty()),
            ("answers", !read.answers.is_empty()),
        ];
        if read.transport == ScriptTransport::Sse {
            nothing_of(words, "an event stream takes no words: with transport = \"sse\"")?;
        }
        Ok(Self {
            path: read.path.0,
            transport: read.transport,
            headers,
            binary: read.binary,
            stream: read.stream,
            steps: read.steps,
            answers: read.answers,
            publish: read.publish,
        })
    }
}

/// Refuses the keys that are given though they mean nothing there.
fn nothing_of<const N: usize>(given: [(&str, bool); N], there: &str) -> Result<(), String> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((key, _)) => Err(format!("{there} there must be no `{key}`")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHAT: &str = r#"
        path = "/connection/{topic}"
        subprotocol = "chat"
        headers = ["X: y"]
        binary = true
        stream = true
        [[steps]]
        send = '{"id":1,"connect":{}}'
        wait = '"id":1'
        [[steps]]
        wait = "hello"
        [[answers]]
        on = "{}"
        send = "{}"
        exact = true
        [publish]
        post = "/api/publish"
        headers = ["X-API-Key: key"]
        body = '{"channel":"{topic}","data":"{payload}"}'
    "#;

    #[test]
    fn a_script_says_how_to_subscribe_and_publish() {
        let script = Script::parse(CHAT).unwrap();
        assert_eq!(script.headers, ["X: y", "Sec-WebSocket-Protocol: chat"]);
        assert!(script.binary && script.stream && script.answers[0].exact);
        assert_eq!(script.steps[1], Step { send: None, wait: Some(NotEmpty("hello".to_owned())) });
        let Some(ScriptPublish::Post { path, headers, body, lines }) = script.publishing() else {
            panic!("{script:?}")
        };
        assert_eq!((path.as_str(), headers.len(), lines), ("/api/publish", 1, &false));
        assert!(body.contains(PAYLOAD));
    }

    #[test]
    fn a_script_may_publish_over_tcp_or_redis_or_not_at_all() {
        let with = |publish: &str| {
            let script = Script::parse(&format!("path = \"/\"\n{publish}")).unwrap();
            script.publishing().cloned()
        };
        assert_eq!(with(""), None);
        assert_eq!(
            with("[publish]\nredis = \"a:\""),
            Some(ScriptPublish::Redis { prefix: "a:".to_owned() })
        );
        let tcp =
            with("[publish]\ntcp = \"PUB {topic} {bytes}\\r\\n{payload}\\r\\n\"\nopen = \"C\"");
        let Some(ScriptPublish::Tcp { message, open, expect }) = tcp else { panic!("{tcp:?}") };
        assert_eq!((open.as_str(), expect.as_str()), ("C", ""));
        assert!(message.ends_with("{payload}\r\n"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_key() {
        for (script, line, key) in [
            ("path = \"x\"", 1, "must begin with `/`"),
            ("path = \"/\"\nsteps = 7", 2, "steps"),
            ("path = \"/\"\nstep = []", 2, "step"),
            ("path = \"/\"\nheaders = [\"a: b\",\n\"c\"]", 2, "header \"c\""),
            ("path = \"/\"\nheaders = [\"a: b\\r\\nc: d\"]", 2, "must be a line"),
            ("path = \"/\"\n[[steps]]\nsend = \"a\"\nwaits = \"b\"", 4, "waits"),
            ("path = \"/\"\n[[answers]]\non = \"\"\nsend = \"x\"", 3, "must not be empty"),
            ("path = \"/\"\ntransport = \"smtp\"", 2, "smtp"),
            ("path = \"/\"\n\n[publish]\npost = \"/\"\nredis = \"\"", 3, "exactly one of"),
            ("path = \"/\"\n[publish]\npost = \"/\"", 2, "`body` must have {payload}"),
            ("path = \"/\"\n[publish]\nredis = \"\"\nopen = \"\"", 2, "no `open`"),
        ] {
            let error = Script::parse(script).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line},")), "{script:?}: {error}");
            assert!(error.contains(key), "{script:?}: {error}");
        }
    }

    #[test]
    fn an_event_stream_takes_no_words() {
        for (key, value) in [("stream", "true"), ("steps", "[{}]"), ("subprotocol", "\"a\"")] {
            let script = format!("path = \"/\"\ntransport = \"sse\"\n{key} = {value}");
            let error = Script::parse(&script).unwrap_err().to_string();
            assert!(error.contains(&format!("no `{key}`")), "{error}");
        }
        assert!(Script::parse("path = \"/\"\ntransport = \"sse\"").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_parses_without_a_panic(text in "\\PC{0,80}", at in any::<prop::sample::Index>()) {
            let _ = Script::parse(&text);
            let cut = at.index(CHAT.len());
            let _ = Script::parse(&[&CHAT[..cut], text.as_str(), &CHAT[cut..]].concat());
        }
    }
}
