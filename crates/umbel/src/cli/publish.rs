//! `umbel publish`.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::io::{BufReader, Stdin};
use umbel_protocol::PayloadKind;

use super::help;
use super::outcome::{exit_code, print, runtime};
use crate::client::{
    self, Failure, Input, Messages, NodeUrl, Publication, Publisher, RedisLink, tell,
};

/// The prefix of Redis channels unless told otherwise, as nodes have it.
const DEFAULT_PREFIX: &str = "umbel:";

/// The flags of `umbel publish`.
#[derive(Debug, Args)]
#[command(after_help = help::PUBLISH)]
pub(super) struct Publish {
    /// Publish to this topic
    topic: String,
    /// The message; `-` or nothing: the standard input is the message, to its last byte
    data: Option<OsString>,
    /// Each line of the standard input is a message, published as it comes
    #[arg(long)]
    lines: bool,
    /// A node (http://…), or the Redis server (redis://…, redis+sentinel://…, unix://…) behind nodes
    #[arg(long, value_name = "URL", default_value = help::DEFAULT_URL)]
    url: String,
    /// What the nodes put before topics to name Redis channels [default: umbel:]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// The event's name, which JSON and SSE subscribers see
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    #[command(flatten)]
    kind: Kind,
    /// How long to wait for each answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout_seconds: u64,
}

/// What the message is. Without any of these, objects and arrays are JSON, other UTF-8 is text,
/// the rest is binary.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Kind {
    /// The message is JSON
    #[arg(long)]
    json: bool,
    /// The message is text, also if it looks like JSON
    #[arg(long)]
    text: bool,
    /// The message is binary
    #[arg(long)]
    binary: bool,
}

/// What the flags mean.
struct Plan {
    input: Input,
    publisher: Publisher,
    /// What the messages are published to, for the last line.
    target: String,
    /// Who is counted as receiving: one, several.
    receivers: [&'static str; 2],
}

/// Publishes, and says how many received it.
pub(super) fn run(flags: Publish) -> ExitCode {
    exit_code(flags.plan().and_then(Plan::run))
}

impl Publish {
    fn plan(self) -> Result<Plan, Failure> {
        let topic = client::topic(&self.topic)?;
        let input = input(self.data, self.lines)?;
        let deadline = Duration::from_secs(self.timeout_seconds);
        let kind = self.kind.named();
        if !RedisLink::is_meant(&self.url) {
            if self.prefix.is_some() {
                let fault = "--prefix is for Redis; a node has its own";
                return Err(Failure::Usage(fault.to_owned()));
            }
            let target = topic.to_string();
            let publication = Publication::new(topic, kind, self.event.as_deref())?;
            let publisher = Publisher::to_node(NodeUrl::parse(&self.url)?, publication, deadline)?;
            let receivers = ["node with subscribers", "nodes with subscribers"];
            return Ok(Plan { input, publisher, target, receivers });
        }
        if kind.is_some() || self.event.is_some() {
            let fault =
                "a plain PUBLISH carries neither a kind nor an event; publish to a node for these";
            return Err(Failure::Usage(fault.to_owned()));
        }
        let prefix = self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
        let link = RedisLink::new(&self.url, prefix, &topic)?;
        let target = link.channel().to_owned();
        let receivers = ["client of Redis", "clients of Redis"];
        Ok(Plan { input, publisher: Publisher::to_redis(link, deadline), target, receivers })
    }
}

impl Plan {
    fn run(mut self) -> Result<(), Failure> {
        if self.input == Input::Whole && io::stdin().is_terminal() {
            tell("the message is read from here; Ctrl-D ends it");
        }
        let runtime = runtime()?;
        let published = runtime.block_on(self.publish());
        // Neither a lookup of a host that hangs nor an input without an end must hold up the end.
        runtime.shutdown_background();
        print(&published?)
    }

    /// Publishes all messages and gives what is to be said of them.
    async fn publish(&mut self) -> Result<String, Failure> {
        let is_lines = self.input == Input::Lines;
        let input = BufReader::new(tokio::io::stdin());
        let mut messages = Messages::new(self.input.clone(), input);
        let (mut published, mut received) = (0, 0);
        loop {
            match self.publish_next(&mut messages).await {
                Ok(None) => break,
                Ok(Some(receivers)) => received = receivers,
                Err(failure) if is_lines => return Err(failure.of_message(published + 1)),
                Err(failure) => return Err(failure),
            }
            published += 1;
        }
        let Self { target, receivers: [one, several], .. } = self;
        if is_lines {
            let plural = if published == 1 { "" } else { "s" };
            return Ok(format!("published {published} message{plural} to {target}\n"));
        }
        let who = if received == 1 { one } else { several };
        Ok(format!("published to {target}, received by {received} {who}\n"))
    }

    /// Publishes one message, if there is another, and gives how many received it.
    async fn publish_next(
        &mut self,
        messages: &mut Messages<BufReader<Stdin>>,
    ) -> Result<Option<u64>, Failure> {
        match messages.next().await? {
            Some(message) => self.publisher.publish(message).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Kind {
    fn named(&self) -> Option<PayloadKind> {
        match self {
            Self { json: true, .. } => Some(PayloadKind::Json),
            Self { text: true, .. } => Some(PayloadKind::Text),
            Self { binary: true, .. } => Some(PayloadKind::Binary),
            Self { .. } => None,
        }
    }
}

fn input(data: Option<OsString>, lines: bool) -> Result<Input, Failure> {
    match data {
        Some(data) if data != "-" => {
            if lines {
                let fault = "--lines reads the standard input, but a message is given";
                return Err(Failure::Usage(fault.to_owned()));
            }
            Ok(Input::Given(data.into_vec().into()))
        }
        _ if lines => Ok(Input::Lines),
        _ => Ok(Input::Whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        publish: Publish,
    }

    fn flags(arguments: &[&str]) -> Publish {
        Program::try_parse_from([&["publish"], arguments].concat()).unwrap().publish
    }

    fn fault(arguments: &[&str]) -> String {
        let failure = flags(arguments).plan().err().unwrap();
        assert!(failure.is_usage());
        failure.to_string()
    }

    #[test]
    fn data_is_given_or_read() {
        for (arguments, input) in [
            (&["a", "x"][..], Input::Given("x".into())),
            (&["a", ""], Input::Given("".into())),
            (&["a", "-"], Input::Whole),
            (&["a"], Input::Whole),
            (&["a", "--lines"], Input::Lines),
            (&["a", "-", "--lines"], Input::Lines),
        ] {
            assert_eq!(flags(arguments).plan().unwrap().input, input, "{arguments:?}");
        }
    }

    #[test]
    fn the_url_says_where_to() {
        let plan = flags(&["a.b", "x"]).plan().unwrap();
        assert_eq!((plan.target.as_str(), plan.receivers[0]), ("a.b", "node with subscribers"));
        let plan = flags(&["a.b", "x", "--url", "redis://127.0.0.1"]).plan().unwrap();
        assert_eq!((plan.target.as_str(), plan.receivers[1]), ("umbel:a.b", "clients of Redis"));
        let prefixed = ["a.b", "x", "--url", "redis://127.0.0.1", "--prefix", "live/"];
        assert_eq!(flags(&prefixed).plan().unwrap().target, "live/a.b");
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let redis = ["--url", "redis://127.0.0.1"];
        assert!(fault(&["a b", "x"]).starts_with("`a b`: topic name has ' ' at byte 1"));
        assert!(fault(&["a", "x", "--lines"]).starts_with("--lines reads the standard input"));
        assert!(fault(&["a", "x", "--prefix", "p"]).starts_with("--prefix is for Redis"));
        assert!(fault(&["a", "x", "--event", "umbel.x"]).contains("are reserved"));
        assert!(fault(&["a", "x", "--url", "news"]).starts_with("`news` is not a URL such as"));
        assert!(fault(&["a", "x", "--url", "redis://:p@h:x"]).starts_with("what --url gives is"));
        for flag in [&["--json"][..], &["--text"], &["--binary"], &["--event", "e"]] {
            let fault = fault(&[&["a", "x"], &redis[..], flag].concat());
            assert!(fault.starts_with("a plain PUBLISH carries neither"), "{fault}");
        }
    }

    #[test]
    fn one_kind_at_most() {
        assert_eq!(flags(&["a", "--json"]).kind.named(), Some(PayloadKind::Json));
        assert_eq!(flags(&["a", "--text"]).kind.named(), Some(PayloadKind::Text));
        assert_eq!(flags(&["a", "--binary"]).kind.named(), Some(PayloadKind::Binary));
        assert_eq!(flags(&["a"]).kind.named(), None);
        assert!(Program::try_parse_from(["publish", "a", "--json", "--text"]).is_err());
    }
}
