//! `[[routes]]`: an application's own URLs.

use toml::Spanned;
use toml::de::DeValue;

use super::Reader;
use super::route::RouteReader;
use crate::route::Routes;

impl Reader<'_> {
    pub(super) fn routes(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Array(entries) = value.get_ref() else {
            return self.mistake(&value.span(), "routes must be written as [[routes]]".to_owned());
        };
        let mut routes = Vec::new();
        let mut spans = Vec::new();
        for entry in entries {
            let DeValue::Table(table) = entry.get_ref() else {
                self.mistake(&entry.span(), "routes must be written as [[routes]]".to_owned());
                continue;
            };
            if let Some(route) = RouteReader::new(self, table).read(&entry.span()) {
                let place = self.place(&entry.span());
                let text = self.section(&entry.span()).to_owned();
                self.settings.provenance.add_route(text, place);
                routes.push(route);
                spans.push(entry.span());
            }
        }
        let paths: Vec<_> = routes.iter().map(|route| route.path.to_string()).collect();
        match Routes::new(routes) {
            Ok(routes) => self.settings.routes = routes,
            Err((first, second)) => {
                let line = self.line(&spans[first]);
                let fault = format!(
                    "`{}` is for the same requests as `{}` of line {line}",
                    paths[second], paths[first]
                );
                self.mistake(&spans[second], fault);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Settings;
    use crate::route::{Found, RequestPath, Route, Transport};

    fn mistakes(text: &str) -> Vec<String> {
        Settings::from_text(text).1.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn route(text: &str, path: &str, transport: Transport) -> Route {
        let (settings, mistakes) = Settings::from_text(text);
        let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes, [""; 0]);
        match settings.routes.find(&RequestPath::decode(path).unwrap(), transport) {
            Found::Route(route) => route.clone(),
            other => panic!("{other:?}"),
        }
    }

    const EVERYTHING: &str = r#"
        [[routes]]
        path = "/game/{game}"
        transports = ["websocket", "sse"]
        topics = ["game.{game}.state", "tick.{query.rate[]}"]
        query.rate = { max = 3, empty = "wait" }
        publish_to = "game.{game}.actions"
        envelope = false
        echo = false
        event = "state"
        hello = { event = "connected", data = '{"message":"Connected!"}' }
        stamp = { id = "{message.id}", by = "{session.id} as {query.name}" }
    "#;

    #[test]
    fn a_route_comes_to_topics_and_a_target() {
        let route = route(EVERYTHING, "/game/7", Transport::Sse);
        assert!(route.transports.websocket && route.transports.sse);
        assert_eq!(route.event.as_ref().unwrap().as_str(), "state");
        assert_eq!(route.hello.as_ref().unwrap().data, r#"{"message":"Connected!"}"#);
        let request = RequestPath::decode("/game/7").unwrap();
        let settled = route.settle(&request, "rate=1,2&name=Ann").unwrap();
        let topics: Vec<_> = settled.topics.iter().map(ToString::to_string).collect();
        assert_eq!(topics, ["game.7.state", "tick.1", "tick.2"]);
        let target = settled.publish.unwrap();
        assert_eq!(target.topic.as_str(), "game.7.actions");
        assert!(target.bare && !target.echo && target.stamp.is_some());
        let refused = |query| route.settle(&request, query).unwrap_err().to_string();
        assert_eq!(refused("rate=1"), "the query has no value for `name`");
        assert_eq!(refused("name=a&rate=1,2,3,4"), "the query has more than 3 values for `rate`");
        assert_eq!(route.settle(&request, "name=a").unwrap().topics.len(), 1, "it may wait");
    }

    #[test]
    fn what_is_left_out_is_open_and_plain() {
        let text = "[[routes]]\npath = \"/\"\ntopics = [\"a\"]\npublish_to = \"a\"";
        let route = route(text, "/", Transport::WebSocket);
        assert!(route.transports.websocket && route.transports.sse);
        assert_eq!((route.event, route.hello), (None, None));
        let publish = route.publish.unwrap();
        assert!(publish.echo && publish.envelope && publish.stamp.is_none());
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        assert_eq!(
            mistakes(
                "[[routes]]\ntopics = [\"a\"]\n\n\
                 [[routes]]\npath = \"/ws\"\ntopics = \"a\"\nrequire = \"{user} == {sub}\"\n\n\
                 [[routes]]\npath = \"/a/{room}\"\ntopics = [\"a.{rom}\", 7, \"b..c\", \"{x\"]\ntransport = [\"sse\"]\ninitial = \"newest\"\n\n\
                 [[routes]]\npath = \"/b\"\ntransports = [\"sse\", \"poll\", \"tcp\"]\ntopics = []\n\n\
                 [[routes]]\npath = \"/c\"\ntransports = [\"websocket\"]\ntopics = [\"c.{query.q}\", \"d.{query.q[]}\"]\nevent = \"x\"\necho = 1\n\n\
                 [[routes]]\npath = \"/d\"\ntransports = [\"sse\"]\ntopics = [\"d\"]\npublish_to = \"d.{query.q[]}\"\nhello = { data = \"x\" }\n\n\
                 [[routes]]\npath = \"/e\"\ntopics = [\"e\"]\npublish_to = \"e\"\necho = false\nenvelope = false\nstamp = { user = \"{session.user}\", x = \"{nothing}\", n = 1 }\n\n\
                 [[routes]]\npath = \"/f/{x}\"\ntransports = [\"sse\"]\ntopics = [\"f\"]\n\n\
                 [[routes]]\npath = \"/f/{y}\"\ntopics = [\"f\"]\n",
            ),
            [
                "umbel.toml:1: `path` is missing: which URL is the route for?",
                "umbel.toml:5: routes.path: /topics, /topics/…, /publish and /ws are the node's own, choose another path",
                "umbel.toml:6: routes.topics: must be an array of strings",
                "umbel.toml:7: routes.require: needs credentials, which this version doesn't check: the URL would be open to everybody",
                "umbel.toml:11: routes.topics: must be a string, a topic such as \"chat.{room}\", not an integer",
                "umbel.toml:11: routes.topics: filled in, the topic name has an empty segment at byte 2",
                "umbel.toml:11: routes.topics: the brace at byte 0 is never closed",
                "umbel.toml:11: routes: the path has no `{rom}`, did you mean `{room}`?",
                "umbel.toml:12: routes.transport: unknown key `transport`, did you mean `transports`?",
                "umbel.toml:13: routes.initial: \"newest\" is not latest:N, such as \"latest:1\"",
                "umbel.toml:15: `topics` is missing: what do sessions hear?",
                "umbel.toml:17: routes.transports: \"tcp\" is not one of \"websocket\", \"sse\", \"poll\"",
                "umbel.toml:23: routes: `q` of the query is a list in one place and one value in another",
                "umbel.toml:24: routes.event: only SSE has event names",
                "umbel.toml:25: routes.echo: must be true or false, not an integer",
                "umbel.toml:25: routes.echo: is about what sessions publish, which needs `publish_to`",
                "umbel.toml:31: routes.publish_to: a list may be several topics, a frame goes to one",
                "umbel.toml:31: routes.publish_to: only WebSocket clients send",
                "umbel.toml:32: routes.hello: `event` is missing: an SSE greeting without a name would pass for a message",
                "umbel.toml:39: routes.envelope: without it nothing says who sent a message, so `echo = false` can't hold on a topic that the sender hears",
                "umbel.toml:40: routes.stamp: must be a string, text such as \"{message.id}\", not an integer",
                "umbel.toml:40: routes.stamp: {session.user} needs credentials, which this version doesn't check",
                "umbel.toml:40: routes: the path has no `{nothing}`",
                "umbel.toml:47: `/f/{y}` is for the same requests as `/f/{x}` of line 42",
            ],
        );
    }

    #[test]
    fn what_is_said_of_the_query_must_be_about_its_templates() {
        let text = "[[routes]]\npath = \"/a\"\ntopics = [\"a.{query.x}\", \"b.{query.y[]}\"]\n\
                    query.x = { max = 5 }\nquery.y = { max = 0, emty = \"wait\" }\nquery.z = { empty = \"wait\" }\nquery.w = 1\npublish_to = \"c.{query.v}\"\nquery.v = { empty = \"wait\" }\n";
        assert_eq!(
            mistakes(text),
            [
                "umbel.toml:4: routes.query.x: `max` is for lists, {query.x[]}",
                "umbel.toml:5: routes.query.y.emty: unknown key `emty`, did you mean `empty`?",
                "umbel.toml:5: routes.query.y.max: 0 is not a whole number from 1 to 1000",
                "umbel.toml:6: routes.query.z: no template has {query.z}",
                "umbel.toml:7: routes.query.w: must be a table such as { max = 50, empty = \"refuse\" }",
                "umbel.toml:8: routes.publish_to: {query.v} may be empty, as its `empty = \"wait\"` says, but a frame needs a topic",
            ],
        );
        assert!(mistakes("routes = 1")[0].ends_with("routes must be written as [[routes]]"));
        assert!(mistakes("routes = [1]")[0].ends_with("routes must be written as [[routes]]"));
    }
}
