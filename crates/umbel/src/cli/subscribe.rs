//! `umbel subscribe`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use umbel_protocol::{After, Cursor, Topic};

use super::outcome::{exit_code, runtime};
use super::{Signals, help};
use crate::client::{
    self, Failure, Form, NodeUrl, Output, Place, RedisLink, StreamPlace, Subscriber, Subscription,
    TopicPlaces,
};

/// The flags of `umbel subscribe`.
#[derive(Debug, Args)]
#[command(after_help = help::SUBSCRIBE)]
pub(super) struct Subscribe {
    /// Print the messages of these topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// A node
    #[arg(long, value_name = "URL", default_value = help::DEFAULT_URL)]
    url: String,
    /// How messages come: by WebSocket or as server-sent events
    #[arg(long, value_enum, default_value_t = Transport::Ws)]
    transport: Transport,
    /// Begin behind this place in the topics' history: the id of a message, `0` for all that is
    /// held, `latest:N` for the newest N, or, over SSE, the id of a stream over several topics
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Print each message as a JSON object with `topic`, `message_id`, `event`, `time` and one of
    /// `data`, `text`, `base64`, as far as the transport tells them
    #[arg(long)]
    json: bool,
    /// End after so many messages
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How long to wait for the subscription at each attempt
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout_seconds: u64,
    /// Reconnect when the node was silent for so long [default: three of its heartbeats]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    silence_seconds: Option<u64>,
}

/// How messages come: by WebSocket in the JSON dialect, or by SSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    Ws,
    Sse,
}

/// Prints messages until there were enough, somebody interrupts, or nobody reads them any more.
pub(super) fn run(flags: Subscribe) -> ExitCode {
    exit_code(flags.run())
}

impl Subscribe {
    fn run(self) -> Result<(), Failure> {
        let (form, count) = (self.form(), self.count);
        let subscription = self.subscription()?;
        let runtime = runtime()?;
        let outcome = runtime.block_on(async {
            let mut signals = Signals::default();
            // Whichever is dropped here takes its session with it.
            tokio::select! {
                outcome = Subscriber::new(subscription, Output::new(form), count).run() => outcome,
                _ = signals.next() => Ok(()),
                () = Output::closed() => Ok(()),
            }
        });
        // A write to a pipe that nobody reads would wait for ever.
        runtime.shutdown_background();
        outcome
    }

    fn form(&self) -> Form {
        match self.topics.len() {
            _ if self.json => Form::Json,
            1 => Form::Lines,
            _ => Form::LinesWithTopics,
        }
    }

    fn subscription(self) -> Result<Subscription, Failure> {
        if RedisLink::is_meant(&self.url) {
            let fault = "messages come from a node (http://…), not from Redis itself";
            return Err(Failure::Usage(fault.to_owned()));
        }
        let mut topics = Vec::new();
        for name in &self.topics {
            let topic = client::topic(name)?;
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        Ok(Subscription {
            url: NodeUrl::parse(&self.url)?,
            place: self.place(&topics)?,
            topics,
            deadline: Duration::from_secs(self.timeout_seconds),
            silence: self.silence_seconds.map(Duration::from_secs),
        })
    }

    /// Where it begins.
    fn place(&self, topics: &[Topic]) -> Result<Place, Failure> {
        let cursor = self.after.as_deref().map(Cursor::parse).transpose();
        let cursor = cursor.map_err(|error| Failure::Usage(format!("--after: {error}")))?;
        match self.transport {
            // What of several topics has history only the node knows: it says whether that fits.
            Transport::Sse => Ok(Place::Sse(StreamPlace::beginning(cursor))),
            Transport::Ws => {
                let first = cursor.map(|cursor| of_each(&cursor, topics)).transpose()?;
                Ok(Place::Ws(TopicPlaces::beginning(first)))
            }
        }
    }
}

/// A place that each of the topics may begin at.
fn of_each(cursor: &Cursor, topics: &[Topic]) -> Result<After, Failure> {
    let refuse = |fault: String| Err(Failure::Usage(format!("--after: {fault}")));
    match cursor {
        Cursor::Composite(_) => {
            refuse("a cursor over several topics is for SSE: --transport sse".to_owned())
        }
        Cursor::All(After::Position(position)) if position.0.is_some() && topics.len() > 1 => {
            let count = topics.len();
            refuse(format!("a message id is a place in one topic, and {count} are named"))
        }
        Cursor::All(after) => Ok(*after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        subscribe: Subscribe,
    }

    const ID: &str = "00000000000000ab-7";

    /// Of the topics `a` and `b`.
    const COMPOSITE: &str = "AQB3LSoAAAAAAAAAqwd3K6gAAAAAAAAAAAA";

    fn flags(arguments: &[&str]) -> Subscribe {
        Program::try_parse_from([&["subscribe"], arguments].concat()).unwrap().subscribe
    }

    #[test]
    fn several_topics_are_told_apart() {
        assert_eq!(flags(&["a"]).form(), Form::Lines);
        assert_eq!(flags(&["a", "b"]).form(), Form::LinesWithTopics);
        assert_eq!(flags(&["a", "b", "--json"]).form(), Form::Json);
    }

    #[test]
    fn a_topic_named_twice_is_held_once() {
        let subscription = flags(&["a", "b", "a"]).subscription().unwrap();
        let names: Vec<_> = subscription.topics.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(matches!(subscription.place, Place::Ws(_)));
        assert_eq!(subscription.deadline, Duration::from_secs(10));
    }

    #[test]
    fn it_begins_where_it_is_told() {
        for (arguments, after) in [
            (&["a"][..], None),
            (&["a", "--after", ID], Some(ID)),
            (&["a", "a", "--after", ID], Some(ID)),
            (&["a", "b", "--after", "0"], Some("0")),
            (&["a", "b", "--after", "latest:3"], Some("latest:3")),
        ] {
            let after = after.map(|after| After::parse(after).unwrap());
            let place = Place::Ws(TopicPlaces::beginning(after));
            assert_eq!(flags(arguments).subscription().unwrap().place, place, "{arguments:?}");
        }
        for after in [ID, "0", "latest:3", COMPOSITE] {
            let arguments = ["a", "b", "--transport", "sse", "--after", after];
            let place = Place::Sse(StreamPlace::beginning(Some(Cursor::parse(after).unwrap())));
            assert_eq!(flags(&arguments).subscription().unwrap().place, place, "{after}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (arguments, fault) in [
            (&["a", "b c"][..], "`b c`: topic name has ' ' at byte 1"),
            (&["a", "--url", "redis://h"], "messages come from a node"),
            (&["a", "--url", "h:1"], "`h:1` is not a URL such as"),
            (&["a", "--after", ""], "--after: cursor is neither 0, a message id"),
            (&["a", "--after", "latest:x"], "--after: latest: takes a number from 0 to"),
            (&["a", "--after", "AQ", "--transport", "sse"], "--after: composite cursor ends"),
            (&["a", "b", "--after", ID], "--after: a message id is a place in one topic, and 2"),
            (&["a", "--after", COMPOSITE], "--after: a cursor over several topics is for SSE"),
        ] {
            let failure = flags(arguments).subscription().unwrap_err();
            assert!(failure.is_usage() && failure.to_string().starts_with(fault), "{failure}");
        }
        for arguments in [&["a", "--count", "0"][..], &["a", "--transport", "poll"], &[]] {
            assert!(Program::try_parse_from([&["subscribe"], arguments].concat()).is_err());
        }
    }
}
