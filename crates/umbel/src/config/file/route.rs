//! One entry of `[[routes]]`.

mod checks;
mod query;

use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use umbel_protocol::{After, EventName};

use super::super::value::Value;
use super::{Reader, unknown_key};
use crate::route::{
    Hello, Parameter, PublishRule, Route, RoutePath, Stamp, Template, TopicTemplate, Transports,
};

const KEYS: [&str; 12] = [
    "path",
    "transports",
    "topics",
    "query",
    "publish_to",
    "echo",
    "envelope",
    "stamp",
    "event",
    "hello",
    "initial",
    "require",
];

/// Reads one route, as far as it can be read, so that all that is wrong with it is told at once.
pub(super) struct RouteReader<'r, 'f, 't> {
    reader: &'r mut Reader<'f>,
    table: &'t DeTable<'t>,
    faults: usize,
}

type Item<'t> = Spanned<DeValue<'t>>;

/// Something read, and where it stands.
type Placed<T> = (T, Range<usize>);

impl<'r, 'f, 't> RouteReader<'r, 'f, 't> {
    pub(super) fn new(reader: &'r mut Reader<'f>, table: &'t DeTable<'t>) -> Self {
        Self { reader, table, faults: 0 }
    }

    /// The route, if nothing is wrong with it.
    pub(super) fn read(mut self, span: &Range<usize>) -> Option<Route> {
        self.check_keys();
        let path = self.path(span);
        let transports = self.transports();
        let topics = self.topics();
        let publish_to = self.publish_to();
        let stamp = self.stamp();
        let (echo, envelope) = (self.boolean("echo"), self.boolean("envelope"));
        let event = self.event(self.table, "event", "routes.event");
        let hello = self.hello(transports);
        let initial = self.initial();

        let mut templates: Vec<Placed<&Template>> = Vec::new();
        for (topic, at) in topics.iter().chain(&publish_to) {
            templates.push((topic.template(), at.clone()));
        }
        templates.extend(stamp.iter().flatten().map(|(_, (value, at))| (value, at.clone())));
        if let Some(path) = &path {
            self.check_path_parameters(path, &templates);
        }
        let query = self.query_parameters(&templates);
        if let Some(target) = &publish_to {
            self.check_target(target, &query);
            self.check_echo(target, echo, envelope, &topics);
        }
        self.check_sense(span, transports, event.is_some());
        if self.faults > 0 {
            return None;
        }
        Some(Route {
            path: path?,
            transports,
            topics: topics.into_iter().map(|(topic, _)| topic).collect(),
            query,
            publish: publish_to.map(|(to, _)| PublishRule {
                to,
                echo: echo.unwrap_or(true),
                envelope: envelope.unwrap_or(true),
                stamp: stamp.map(|members| {
                    Stamp::new(members.into_iter().map(|(name, (value, _))| (name, value)))
                }),
            }),
            event,
            hello,
            initial,
        })
    }

    fn path(&mut self, span: &Range<usize>) -> Option<RoutePath> {
        let Some(value) = self.table.get("path") else {
            self.fault(span, "`path` is missing: which URL is the route for?".to_owned());
            return None;
        };
        self.parsed(value, "path", "a path such as \"/chat/{room}\"")
    }

    fn transports(&mut self) -> Transports {
        #[derive(Clone, Copy)]
        enum Word {
            WebSocket,
            Sse,
            Poll,
        }
        const WORDS: [(&str, Word); 3] =
            [("websocket", Word::WebSocket), ("sse", Word::Sse), ("poll", Word::Poll)];
        let both = Transports { websocket: true, sse: true, poll: false };
        let Some(value) = self.table.get("transports") else {
            return both;
        };
        let mut transports = Transports { websocket: false, sse: false, poll: false };
        let items = self.items(value, "transports");
        for item in items {
            match Value::of(item.get_ref()).word(&WORDS) {
                Ok(Word::WebSocket) => transports.websocket = true,
                Ok(Word::Sse) => transports.sse = true,
                Ok(Word::Poll) => transports.poll = true,
                Err(fault) => self.fault(&item.span(), format!("routes.transports: {fault}")),
            }
        }
        if items.is_empty() {
            let fault = "routes.transports: none is named; without this key both are meant";
            self.fault(&value.span(), fault.to_owned());
        }
        // What was meant can't be told, so nothing is made of it.
        let any = transports.websocket || transports.sse || transports.poll;
        if any { transports } else { both }
    }

    fn topics(&mut self) -> Vec<Placed<TopicTemplate>> {
        let Some(value) = self.table.get("topics") else {
            return Vec::new();
        };
        let items = self.items(value, "topics");
        items.iter().filter_map(|item| self.topic_template(item, "topics")).collect()
    }

    fn publish_to(&mut self) -> Option<Placed<TopicTemplate>> {
        self.topic_template(self.table.get("publish_to")?, "publish_to")
    }

    fn topic_template(&mut self, item: &Item<'_>, key: &str) -> Option<Placed<TopicTemplate>> {
        let template: Template = self.parsed(item, key, "a topic such as \"chat.{room}\"")?;
        let topic = TopicTemplate::new(template);
        let topic =
            topic.map_err(|error| self.fault(&item.span(), format!("routes.{key}: {error}")));
        Some((topic.ok()?, item.span()))
    }

    fn stamp(&mut self) -> Option<Vec<(String, Placed<Template>)>> {
        const FORM: &str = "{ id = \"{message.id}\" }";
        let mut members = Vec::new();
        for (name, value) in self.inner_table("stamp", FORM)? {
            let wanted = "text such as \"{message.id}\"";
            let Some(template) = self.parsed::<Template>(value, "stamp", wanted) else {
                continue;
            };
            for parameter in template.parameters() {
                let fault = match parameter {
                    Parameter::SessionUser => "needs credentials, which this version doesn't check",
                    Parameter::QueryList(_) => "is a list, a member takes one value",
                    _ => continue,
                };
                self.fault(&value.span(), format!("routes.stamp: {parameter} {fault}"));
            }
            members.push((name.get_ref().to_string(), (template, value.span())));
        }
        Some(members)
    }

    fn event(&mut self, table: &DeTable<'_>, key: &str, shown: &str) -> Option<EventName> {
        let value = table.get(key)?;
        let name = Value::of(value.get_ref())
            .text("an event name such as \"notification\"")
            .and_then(|text| EventName::new(text).map_err(|error| error.to_string()));
        name.map_err(|fault| self.fault(&value.span(), format!("{shown}: {fault}"))).ok()
    }

    fn hello(&mut self, transports: Transports) -> Option<Hello> {
        const KEYS: [&str; 2] = ["event", "data"];
        let table = self.inner_table("hello", "{ event = \"connected\", data = \"welcome\" }")?;
        for key in table.keys().filter(|key| !KEYS.contains(&&**key.get_ref())) {
            let fault = unknown_key(key.get_ref(), KEYS.into_iter());
            self.fault(&key.span(), format!("routes.hello: {fault}"));
        }
        let at = self.key_span("hello");
        if transports.sse && !table.contains_key("event") {
            let fault = "routes.hello: `event` is missing: an SSE greeting without a name would pass for a message";
            self.fault(&at, fault.to_owned());
        }
        let event = self.event(table, "event", "routes.hello.event");
        let Some(data) = table.get("data") else {
            self.fault(&at, "routes.hello: `data` is missing: what is the greeting?".to_owned());
            return None;
        };
        let text = Value::of(data.get_ref()).text("the greeting");
        let text =
            text.map_err(|fault| self.fault(&data.span(), format!("routes.hello.data: {fault}")));
        Some(Hello { event, data: text.ok()?.to_owned() })
    }

    fn initial(&mut self) -> Option<u32> {
        let value = self.table.get("initial")?;
        let read = Value::of(value.get_ref()).text("such as \"latest:1\"").and_then(|text| {
            match After::parse(text) {
                Ok(After::Latest(count)) => Ok(count),
                _ => Err(format!("\"{text}\" is not latest:N, such as \"latest:1\"")),
            }
        });
        read.map_err(|fault| self.fault(&value.span(), format!("routes.initial: {fault}"))).ok()
    }

    fn boolean(&mut self, key: &str) -> Option<bool> {
        let value = self.table.get(key)?;
        let read = Value::of(value.get_ref()).boolean();
        read.map_err(|fault| self.fault(&value.span(), format!("routes.{key}: {fault}"))).ok()
    }

    fn inner_table(&mut self, key: &str, form: &str) -> Option<&'t DeTable<'t>> {
        let value = self.table.get(key)?;
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        self.fault(&value.span(), format!("routes.{key}: must be a table such as {form}"));
        None
    }

    /// The items of an array; none if it isn't one.
    fn items(&mut self, value: &'t Item<'t>, key: &str) -> &'t [Item<'t>] {
        if let DeValue::Array(items) = value.get_ref() {
            return items;
        }
        self.fault(&value.span(), format!("routes.{key}: must be an array of strings"));
        &[]
    }

    fn parsed<T>(&mut self, value: &Item<'_>, key: &str, wanted: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let read = Value::of(value.get_ref())
            .text(wanted)
            .and_then(|text| text.parse().map_err(|error: T::Err| error.to_string()));
        read.map_err(|fault| self.fault(&value.span(), format!("routes.{key}: {fault}"))).ok()
    }

    fn key_span(&self, key: &str) -> Range<usize> {
        let key = self.table.keys().find(|known| **known.get_ref() == *key);
        key.map(Spanned::span).unwrap_or_default()
    }

    fn fault(&mut self, span: &Range<usize>, fault: String) {
        self.faults += 1;
        self.reader.mistake(span, fault);
    }
}
