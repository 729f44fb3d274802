//! What the parts of a route must agree on.

use std::ops::Range;

use super::super::unknown_key;
use super::{KEYS, Placed, RouteReader};
use crate::route::{
    Empty, Parameter, QueryParameter, RoutePath, Template, TopicTemplate, Transports,
};

impl RouteReader<'_, '_, '_> {
    /// Finds keys that nobody knows, and those whose promise the node can't keep yet.
    pub(super) fn check_keys(&mut self) {
        for key in self.table.keys() {
            let fault = match key.get_ref().as_ref() {
                "require" => "needs credentials, which this version doesn't check: the URL would be open to everybody".to_owned(),
                known if KEYS.contains(&known) => continue,
                other => unknown_key(other, KEYS.into_iter()),
            };
            self.fault(&key.span(), format!("routes.{}: {fault}", key.get_ref()));
        }
    }

    pub(super) fn check_path_parameters(
        &mut self,
        path: &RoutePath,
        templates: &[Placed<&Template>],
    ) {
        for (template, at) in templates {
            for parameter in template.parameters() {
                let Parameter::Path(name) = parameter else {
                    continue;
                };
                if path.parameters().any(|known| known == &**name) {
                    continue;
                }
                let likeness = |known: &&str| strsim::damerau_levenshtein(known, name);
                let near = path.parameters().min_by_key(likeness);
                let hint = near.map_or_else(String::new, |n| format!(", did you mean `{{{n}}}`?"));
                self.fault(at, format!("routes: the path has no `{parameter}`{hint}"));
            }
        }
    }

    /// A target is exactly one topic, whatever the request.
    pub(super) fn check_target(
        &mut self,
        (target, at): &Placed<TopicTemplate>,
        query: &[QueryParameter],
    ) {
        if target.is_list() {
            let fault = "routes.publish_to: a list may be several topics, a frame goes to one";
            self.fault(at, fault.to_owned());
        }
        let waits = |parameter: &&Parameter| match parameter {
            Parameter::Query(name) => {
                query.iter().any(|known| known.name == *name && known.empty == Empty::Wait)
            }
            _ => false,
        };
        if let Some(parameter) = target.template().parameters().find(waits) {
            let fault = "may be empty, as its `empty = \"wait\"` says, but a frame needs a topic";
            self.fault(at, format!("routes.publish_to: {parameter} {fault}"));
        }
    }

    /// A bare payload doesn't say whose it is, so who hears a topic also hears itself there.
    pub(super) fn check_echo(
        &mut self,
        (target, _): &Placed<TopicTemplate>,
        echo: Option<bool>,
        envelope: Option<bool>,
        topics: &[Placed<TopicTemplate>],
    ) {
        let hears = topics.iter().any(|(topic, _)| topic == target);
        if hears && echo == Some(false) && envelope == Some(false) {
            let at = self.key_span("envelope");
            let fault = "routes.envelope: without it nothing says who sent a message, so `echo = false` can't hold on a topic that the sender hears";
            self.fault(&at, fault.to_owned());
        }
    }

    /// Finds settings that could have no effect: they would only seem to hold.
    pub(super) fn check_sense(
        &mut self,
        span: &Range<usize>,
        transports: Transports,
        has_event: bool,
    ) {
        let publishes = self.table.contains_key("publish_to");
        let named = self.table.get("topics");
        let hears = named.is_some_and(|t| t.get_ref().as_array().is_none_or(|t| !t.is_empty()));
        if !hears && !publishes {
            self.fault(span, "`topics` is missing: what do sessions hear?".to_owned());
        }
        if publishes && !transports.websocket {
            let at = self.key_span("publish_to");
            self.fault(&at, "routes.publish_to: only WebSocket clients send".to_owned());
        }
        for key in ["echo", "envelope", "stamp"] {
            if !publishes && self.table.contains_key(key) {
                let at = self.key_span(key);
                let fault = "is about what sessions publish, which needs `publish_to`";
                self.fault(&at, format!("routes.{key}: {fault}"));
            }
        }
        if !transports.websocket && !transports.sse {
            for key in ["hello", "initial"] {
                if self.table.contains_key(key) {
                    let at = self.key_span(key);
                    self.fault(&at, format!("routes.{key}: a poll is no session"));
                }
            }
        }
        if has_event && !transports.sse {
            let at = self.key_span("event");
            self.fault(&at, "routes.event: only SSE has event names".to_owned());
        }
    }
}
