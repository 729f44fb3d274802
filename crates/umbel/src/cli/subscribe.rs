//! `umbel subscribe`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::outcome::{exit_code, runtime};
use super::{help, stop_signal};
use crate::client::{
    self, Failure, Form, NodeUrl, Output, RedisLink, Subscriber, Subscription, Transport,
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
            // Whichever is dropped here takes its session with it.
            tokio::select! {
                outcome = Subscriber::new(subscription, Output::new(form), count).run() => outcome,
                () = stop_signal() => Ok(()),
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
            topics,
            transport: self.transport,
            deadline: Duration::from_secs(self.timeout_seconds),
            silence: self.silence_seconds.map(Duration::from_secs),
        })
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
        assert_eq!(subscription.transport, Transport::Ws);
        assert_eq!(subscription.deadline, Duration::from_secs(10));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (arguments, fault) in [
            (&["a", "b c"][..], "`b c`: topic name has ' ' at byte 1"),
            (&["a", "--url", "redis://h"], "messages come from a node"),
            (&["a", "--url", "h:1"], "`h:1` is not a URL such as"),
        ] {
            let failure = flags(arguments).subscription().unwrap_err();
            assert!(failure.is_usage() && failure.to_string().starts_with(fault), "{failure}");
        }
        for arguments in [&["a", "--count", "0"][..], &["a", "--transport", "poll"], &[]] {
            assert!(Program::try_parse_from([&["subscribe"], arguments].concat()).is_err());
        }
    }
}
