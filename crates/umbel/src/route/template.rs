//! Text with parameters, such as `game.{game}.state`.

use std::fmt;

use super::path::is_name;

/// Text with parameters in braces.
///
/// ```
/// use umbel::route::Template;
///
/// let template: Template = "metrics.{query.metrics[]}".parse()?;
/// assert_eq!(template.to_string(), "metrics.{query.metrics[]}");
/// # Ok::<(), umbel::route::TemplateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Box<[Part]>);

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself.
    Text(Box<str>),
    /// Stands for a value.
    Parameter(Parameter),
}

/// What stands in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// `{game}`: what the request has in the place of this segment of the route's path.
    Path(Box<str>),
    /// `{query.room}`: the one value of this name in the request's query.
    Query(Box<str>),
    /// `{query.metrics[]}`: all values of this name, split at commas.
    QueryList(Box<str>),
    /// `{message.id}`: a fresh id for each message.
    MessageId,
    /// `{message.time}`: when the message was published, in milliseconds since 1970.
    MessageTime,
    /// `{session.id}`: the session that publishes.
    SessionId,
    /// `{session.user}`: who the session's credential says it is.
    SessionUser,
}

/// Why text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError(Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Unclosed { at: usize },
    Unopened { at: usize },
    Unknown { name: Box<str> },
}

impl Template {
    /// The pieces in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The parameters in order.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Parameter(parameter) => Some(parameter),
        })
    }
}

impl FromIterator<Part> for Template {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        Self(parts.into_iter().collect())
    }
}

impl std::str::FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parts(text).map(|parts| Self(parts.into())).map_err(TemplateError)
    }
}

fn parts(text: &str) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(brace) = rest.find(['{', '}']) {
        let at = text.len() - rest.len() + brace;
        if rest[brace..].starts_with('}') {
            return Err(Fault::Unopened { at });
        }
        let (name, behind) = rest[brace + 1..].split_once('}').ok_or(Fault::Unclosed { at })?;
        if brace > 0 {
            parts.push(Part::Text(rest[..brace].into()));
        }
        parts.push(Part::Parameter(parameter(name)?));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(parts)
}

fn parameter(name: &str) -> Result<Parameter, Fault> {
    let of_query = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        !name.is_empty() && name.bytes().all(allowed)
    };
    match name {
        "message.id" => return Ok(Parameter::MessageId),
        "message.time" => return Ok(Parameter::MessageTime),
        "session.id" => return Ok(Parameter::SessionId),
        "session.user" => return Ok(Parameter::SessionUser),
        _ if is_name(name) => return Ok(Parameter::Path(name.into())),
        _ => {}
    }
    if let Some(query) = name.strip_prefix("query.") {
        match query.strip_suffix("[]") {
            Some(list) if of_query(list) => return Ok(Parameter::QueryList(list.into())),
            None if of_query(query) => return Ok(Parameter::Query(query.into())),
            _ => {}
        }
    }
    Err(Fault::Unknown { name: name.into() })
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Parameter(parameter) => write!(f, "{parameter}"),
        })
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(name) => write!(f, "{{{name}}}"),
            Self::Query(name) => write!(f, "{{query.{name}}}"),
            Self::QueryList(name) => write!(f, "{{query.{name}[]}}"),
            Self::MessageId => f.write_str("{message.id}"),
            Self::MessageTime => f.write_str("{message.time}"),
            Self::SessionId => f.write_str("{session.id}"),
            Self::SessionUser => f.write_str("{session.user}"),
        }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::Unclosed { at } => write!(f, "the brace at byte {at} is never closed"),
            Fault::Unopened { at } => write!(f, "the brace at byte {at} closes nothing"),
            Fault::Unknown { name } => write!(
                f,
                "there is no parameter `{{{name}}}`: known are {{name}} of the path, {{query.name}}, {{query.name[]}}, {{message.id}}, {{message.time}} and {{session.id}}"
            ),
        }
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_found_between_text() {
        let text = |text: &str| Part::Text(text.into());
        for (template, parts) in [
            ("", vec![]),
            ("news", vec![text("news")]),
            (
                "game.{game}.state",
                vec![
                    text("game."),
                    Part::Parameter(Parameter::Path("game".into())),
                    text(".state"),
                ],
            ),
            (
                "{query.a-b}{query.c.d[]}",
                vec![
                    Part::Parameter(Parameter::Query("a-b".into())),
                    Part::Parameter(Parameter::QueryList("c.d".into())),
                ],
            ),
            ("{message.id}", vec![Part::Parameter(Parameter::MessageId)]),
            ("{query}", vec![Part::Parameter(Parameter::Path("query".into()))]),
        ] {
            assert_eq!(template.parse::<Template>().unwrap().parts(), parts, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_place() {
        for (template, reason) in [
            ("a.{b", "the brace at byte 2 is never closed"),
            ("a}", "the brace at byte 1 closes nothing"),
            ("{a}}", "the brace at byte 3 closes nothing"),
        ] {
            assert_eq!(template.parse::<Template>().unwrap_err().to_string(), reason);
        }
        for name in [
            "",
            "{a",
            "a b",
            "1",
            "query.",
            "query.[]",
            "query.a[",
            "query.a[]b",
            "message.x",
            "session.user2",
        ] {
            let error = format!("x{{{name}}}").parse::<Template>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("there is no parameter `{{{name}}}`: ")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_template_is_written_as_it_was_read(text in "([a-c.]|[{}]|\\{[a-c]\\}|\\{query\\.[a-c](\\[\\])?\\}|\\{message\\.id\\}){0,8}|.{0,20}") {
            if let Ok(template) = text.parse::<Template>() {
                prop_assert_eq!(template.to_string(), text);
            }
        }
    }
}
