//! What a request gives a route's parameters, and topics made of it.

use std::collections::BTreeMap;
use std::fmt;

use umbel_protocol::{Topic, TopicError};

use super::path::{RequestPath, RoutePath};
use super::template::{Parameter, Part, Template};

/// A parameter of the query that a route's templates name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryParameter {
    /// Its name.
    pub name: Box<str>,
    /// How often it may have a value.
    pub count: Count,
    /// What a request without a value gets.
    pub empty: Empty,
}

/// How many values a parameter of the query has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// One, commas and all.
    One,
    /// As many as commas separate, up to a limit.
    List {
        /// The limit.
        max: usize,
    },
}

/// What a request gets that has no value for a parameter of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Empty {
    /// A refusal.
    #[default]
    Refuse,
    /// A session without the topics that the parameter would name.
    Wait,
}

/// A template whose result is a topic, or several if it has a list.
///
/// Each value fills one segment of the name at most: what would make it more is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate(Template);

/// Why a template can't name topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplateError(Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    PerMessage(Parameter),
    TwoInOneSegment(Parameter),
    TwoLists(Parameter),
    Topic(TopicError),
}

/// A request can't be given what the route promises. The text is for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(String);

/// The values of one request.
#[derive(Debug)]
pub(super) struct Values<'r> {
    path: Vec<(&'r str, &'r str)>,
    query: BTreeMap<&'r str, Vec<String>>,
}

impl TopicTemplate {
    /// Checks that a template can name topics.
    pub fn new(template: Template) -> Result<Self, TopicTemplateError> {
        check(&template).map_err(TopicTemplateError)?;
        Ok(Self(template))
    }

    /// The template.
    pub fn template(&self) -> &Template {
        &self.0
    }

    /// Whether it may name several topics.
    pub fn is_list(&self) -> bool {
        self.0.parameters().any(|parameter| matches!(parameter, Parameter::QueryList(_)))
    }

    /// The topics for a request's values; none if a parameter has none and may wait.
    pub(super) fn topics(&self, values: &Values<'_>) -> Result<Vec<Topic>, Refusal> {
        let mut names = vec![String::new()];
        for part in self.0.parts() {
            match part {
                Part::Text(text) => names.iter_mut().for_each(|name| name.push_str(text)),
                Part::Parameter(parameter) => {
                    let fillings = values.of(parameter);
                    for value in &fillings {
                        check_segment(parameter, value)?;
                    }
                    let filled = |name: &String| {
                        fillings.iter().map(|value| format!("{name}{value}")).collect::<Vec<_>>()
                    };
                    names = names.iter().flat_map(filled).collect();
                }
            }
        }
        let topic = |name: &String| {
            Topic::new(name).map_err(|error| Refusal(format!("`{name}` can't be a topic: {error}")))
        };
        names.iter().map(topic).collect()
    }
}

fn check(template: &Template) -> Result<(), Fault> {
    let mut sample = String::new();
    let (mut in_segment, mut has_list) = (false, false);
    for part in template.parts() {
        let parameter = match part {
            Part::Text(text) => {
                in_segment &= !text.contains(['.', '/']);
                sample.push_str(text);
                continue;
            }
            Part::Parameter(parameter) => parameter,
        };
        match parameter {
            Parameter::Path(_) | Parameter::Query(_) => {}
            Parameter::QueryList(_) if has_list => return Err(Fault::TwoLists(parameter.clone())),
            Parameter::QueryList(_) => has_list = true,
            _ => return Err(Fault::PerMessage(parameter.clone())),
        }
        // Of `{a}{b}` nobody could tell where one value ends, so one could pretend to be another.
        if std::mem::replace(&mut in_segment, true) {
            return Err(Fault::TwoInOneSegment(parameter.clone()));
        }
        sample.push('x');
    }
    Topic::new(&sample).map(drop).map_err(Fault::Topic)
}

fn check_segment(parameter: &Parameter, value: &str) -> Result<(), Refusal> {
    let fault = if value.is_empty() {
        "is empty".to_owned()
    } else if let Some(at) = value.find(['.', '/', '*']) {
        format!("has '{}' at byte {at}", &value[at..=at])
    } else {
        return Ok(());
    };
    Err(Refusal(format!("{parameter} {fault}, it must be one segment of a topic name")))
}

impl<'r> Values<'r> {
    /// The values that a request has for a route's parameters; `None` if the path is another.
    pub(super) fn read(
        path: &'r RoutePath,
        parameters: &'r [QueryParameter],
        request: &'r RequestPath<'_>,
        query: &str,
    ) -> Result<Option<Self>, Refusal> {
        let Some(path) = path.captures(request) else {
            return Ok(None);
        };
        let values =
            |parameter: &'r QueryParameter| Ok((&*parameter.name, parameter.values(query)?));
        let query = parameters.iter().map(values).collect::<Result<_, Refusal>>()?;
        Ok(Some(Self { path, query }))
    }

    /// The values of a parameter that a request settles: exactly one for all but the query's.
    fn of(&self, parameter: &Parameter) -> Vec<&str> {
        match parameter {
            Parameter::Path(name) => {
                self.path.iter().filter(|(known, _)| *known == &**name).map(|(_, v)| *v).collect()
            }
            Parameter::Query(name) | Parameter::QueryList(name) => {
                self.query.get(&**name).into_iter().flatten().map(String::as_str).collect()
            }
            Parameter::MessageId
            | Parameter::MessageTime
            | Parameter::SessionId
            | Parameter::SessionUser => Vec::new(),
        }
    }

    /// The value as text; empty if the request has none.
    pub(super) fn text_of(&self, parameter: &Parameter) -> &str {
        self.of(parameter).first().copied().unwrap_or_default()
    }
}

impl QueryParameter {
    /// The values that a query has, decoded first and then split.
    fn values(&self, query: &str) -> Result<Vec<String>, Refusal> {
        let own = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| *name == *self.name);
        let given: Vec<_> = own.map(|(_, value)| value).filter(|value| !value.is_empty()).collect();
        let name = &self.name;
        match (self.count, &given[..]) {
            (_, []) if self.empty == Empty::Wait => Ok(Vec::new()),
            (_, []) => Err(Refusal(format!("the query has no value for `{name}`"))),
            (Count::One, [value]) => Ok(vec![value.clone().into_owned()]),
            (Count::One, several) => Err(Refusal(format!(
                "the query has {} values for `{name}`, one is allowed",
                several.len()
            ))),
            (Count::List { max }, lists) => {
                let mut values: Vec<String> = Vec::new();
                for value in lists.iter().flat_map(|list| list.split(',')) {
                    if values.iter().any(|known| known == value) {
                        continue;
                    }
                    if values.len() == max {
                        return Err(Refusal(format!(
                            "the query has more than {max} values for `{name}`"
                        )));
                    }
                    values.push(value.to_owned());
                }
                Ok(values)
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for TopicTemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::PerMessage(parameter) => {
                write!(f, "{parameter} is known only per message, a topic is chosen before")
            }
            Fault::TwoInOneSegment(parameter) => write!(
                f,
                "{parameter} shares a segment with another parameter, divide them by a dot or slash"
            ),
            Fault::TwoLists(parameter) => {
                write!(f, "{parameter} is a second list, at most one is allowed")
            }
            Fault::Topic(error) => write!(f, "filled in, the {error}"),
        }
    }
}

impl std::error::Error for TopicTemplateError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parameters(count: Count, empty: Empty) -> [QueryParameter; 1] {
        [QueryParameter { name: "q".into(), count, empty }]
    }

    fn topics(
        template: &str,
        parameters: &[QueryParameter],
        request: &str,
        query: &str,
    ) -> Result<Vec<String>, String> {
        let template = TopicTemplate::new(template.parse().unwrap()).unwrap();
        let path = "/{a}/{b}".parse().unwrap();
        let request = RequestPath::decode(request).unwrap();
        let topics = Values::read(&path, parameters, &request, query)
            .and_then(|values| template.topics(&values.unwrap()));
        topics
            .map(|topics| topics.iter().map(ToString::to_string).collect())
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn values_fill_exactly_one_segment() {
        assert_eq!(topics("x.{a}.{b}", &[], "/1/2", "").unwrap(), ["x.1.2"]);
        assert_eq!(topics("x/{a}-s/{b}", &[], "/1/user%3A7", "").unwrap(), ["x/1-s/user:7"]);
        let one = "it must be one segment of a topic name";
        for (request, reason) in [
            ("/a.b/1", format!("{{a}} has '.' at byte 1, {one}")),
            ("/a%2Fb/1", format!("{{a}} has '/' at byte 1, {one}")),
            ("/1/*", format!("{{b}} has '*' at byte 0, {one}")),
            ("/1/", format!("{{b}} is empty, {one}")),
        ] {
            assert_eq!(topics("x.{a}.{b}", &[], request, "").unwrap_err(), reason);
        }
        let error = topics("x.{a}", &[], "/a%20b/1", "").unwrap_err();
        assert!(
            error.starts_with("`x.a b` can't be a topic: topic name has ' ' at byte 3"),
            "{error}"
        );
        assert!(topics("{a}", &[], "/~x/1", "").is_err(), "no value makes a name that is reserved");
    }

    #[test]
    fn a_list_is_decoded_then_split_and_bounded() {
        let list = parameters(Count::List { max: 3 }, Empty::Refuse);
        let topics = |query: &str| topics("m.{query.q[]}", &list, "/1/2", query);
        assert_eq!(topics("q=cpu%2Cmem").unwrap(), ["m.cpu", "m.mem"]);
        assert_eq!(topics("x=1&q=cpu,mem&q=cpu&q=disk").unwrap(), ["m.cpu", "m.mem", "m.disk"]);
        assert_eq!(topics("q=a,b,c,d").unwrap_err(), "the query has more than 3 values for `q`");
        for query in ["", "q", "q=", "p=1", "q=&q="] {
            assert_eq!(topics(query).unwrap_err(), "the query has no value for `q`", "{query}");
        }
        assert!(topics("q=cpu,,mem").unwrap_err().starts_with("{query.q[]} is empty"));
        assert!(topics("q=cpu%252Cmem").unwrap_err().contains("can't be a topic"), "decoded once");
        assert!(topics("q=a.b").unwrap_err().starts_with("{query.q[]} has '.'"));
        let error = topics("q=%ff").unwrap_err();
        assert!(error.contains("can't be a topic"), "what isn't UTF-8 is no name: {error}");
    }

    #[test]
    fn a_scalar_is_one_value_and_an_empty_one_may_wait() {
        let scalar = parameters(Count::One, Empty::Refuse);
        let error = topics("m.{query.q}", &scalar, "/1/2", "q=a+b").unwrap_err();
        assert!(error.contains("m.a b"), "decoded: {error}");
        assert_eq!(topics("m.{query.q}", &scalar, "/1/2", "q=a").unwrap(), ["m.a"]);
        assert_eq!(
            topics("m.{query.q}", &scalar, "/1/2", "q=a&q=b").unwrap_err(),
            "the query has 2 values for `q`, one is allowed"
        );
        for count in [Count::One, Count::List { max: 1 }] {
            let waits = parameters(count, Empty::Wait);
            let template = if count == Count::One { "m.{query.q}" } else { "m.{query.q[]}" };
            assert_eq!(topics(template, &waits, "/1/2", "q=").unwrap(), [""; 0]);
            assert_eq!(topics(template, &waits, "/1/2", "q=a").unwrap(), ["m.a"]);
        }
    }

    #[test]
    fn templates_that_can_t_name_topics_are_refused() {
        for (template, reason) in [
            ("x.{message.id}", "{message.id} is known only per message, a topic is chosen before"),
            ("x.{session.id}", "{session.id} is known only per message, a topic is chosen before"),
            (
                "x.{a}{b}",
                "{b} shares a segment with another parameter, divide them by a dot or slash",
            ),
            (
                "x.{a}-{b}",
                "{b} shares a segment with another parameter, divide them by a dot or slash",
            ),
            ("{query.a[]}.{query.b[]}", "{query.b[]} is a second list, at most one is allowed"),
            ("", "filled in, the topic name is empty"),
            ("x..{a}", "filled in, the topic name has an empty segment at byte 2"),
            ("~{a}", "filled in, the topic name begins with '~'"),
        ] {
            let error = TopicTemplate::new(template.parse().unwrap()).unwrap_err();
            assert_eq!(error.to_string(), reason, "{template}");
        }
    }

    proptest! {
        #[test]
        fn a_value_never_adds_a_segment(a in "[a-c]{1,2}([./*~,][a-c])?|.{0,12}", query in "q=[a-c]{1,2}([./*~,][a-c])?|.{0,20}") {
            let encoded = a.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
            let list = parameters(Count::List { max: 4 }, Empty::Wait);
            for topic in topics("x.{a}.{query.q[]}", &list, &format!("/{encoded}/1"), &query).unwrap_or_default() {
                prop_assert_eq!(topic.split(['.', '/']).count(), 3);
                prop_assert_eq!(topic.split('.').nth(1), Some(a.as_str()));
            }
        }
    }
}
