//! The path of a route, and how a request's path fits it.

use std::borrow::Cow;
use std::fmt;

use umbel_protocol::{TopicError, decode_path_segment};

/// A path with parameters, such as `/game/{game}`.
///
/// A segment is literal, or a parameter that stands for one whole segment. Literals are written
/// decoded.
///
/// ```
/// use umbel::route::{RequestPath, RoutePath};
///
/// let path: RoutePath = "/game/{game}".parse()?;
/// let request = RequestPath::decode("/game/seven%2Fof%2Fnine")?;
/// assert_eq!(path.captures(&request), Some(vec![("game", "seven/of/nine")]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePath {
    text: Box<str>,
    segments: Box<[Segment]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Parameter(Box<str>),
}

/// Why a path can't be a route's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePathError(Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    NotAbsolute,
    EmptySegment { at: usize },
    Climbs { at: usize },
    BadByte { byte: u8, at: usize },
    PartialParameter { at: usize },
    ParameterName { at: usize },
    Repeated { name: Box<str> },
    BuiltIn,
}

/// The path of a request: its segments, each percent-decoded once.
#[derive(Debug)]
pub struct RequestPath<'p>(Vec<Cow<'p, str>>);

/// First segments below which the node's own resources lie, alone or with all that follows.
const BUILT_IN: [(&str, bool); 3] = [("topics", true), ("publish", false), ("ws", false)];

impl RoutePath {
    /// The parameters' names and what a request has in their places; `None` if the path is
    /// another. A value may be empty.
    pub fn captures<'a>(&'a self, request: &'a RequestPath<'_>) -> Option<Vec<(&'a str, &'a str)>> {
        let RequestPath(values) = request;
        if values.len() != self.segments.len() {
            return None;
        }
        let mut captures = Vec::new();
        for (segment, value) in self.segments.iter().zip(values) {
            match segment {
                Segment::Literal(literal) if **literal != **value => return None,
                Segment::Literal(_) => {}
                Segment::Parameter(name) => captures.push((&**name, &**value)),
            }
        }
        Some(captures)
    }

    /// The names of the parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter(name) => Some(&**name),
        })
    }

    /// Orders paths so that of those that fit a request the first is the closest: where two differ
    /// first, the one with a literal segment.
    pub fn closeness(&self) -> impl Ord + use<> {
        let is_parameter = |segment: &Segment| matches!(segment, Segment::Parameter(_));
        self.segments.iter().map(is_parameter).collect::<Vec<_>>()
    }

    /// The path without the parameters' names. Paths of one shape fit the same requests.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            shape.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::Parameter(_) => "{}",
            });
        }
        shape
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for RoutePath {
    type Err = RoutePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let segments = segments(text).map_err(RoutePathError)?;
        Ok(Self { text: text.into(), segments: segments.into() })
    }
}

fn segments(text: &str) -> Result<Vec<Segment>, Fault> {
    let rest = text.strip_prefix('/').ok_or(Fault::NotAbsolute)?;
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut at = 1;
    for part in rest.split('/') {
        let segment = segment(part, at)?;
        if matches!(segment, Segment::Parameter(_)) && segments.contains(&segment) {
            return Err(Fault::Repeated { name: part.into() });
        }
        segments.push(segment);
        at += part.len() + 1;
    }
    match &segments[..] {
        [Segment::Literal(first), rest @ ..]
            if BUILT_IN
                .iter()
                .any(|(own, below)| **first == **own && (*below || rest.is_empty())) =>
        {
            Err(Fault::BuiltIn)
        }
        _ => Ok(segments),
    }
}

fn segment(part: &str, at: usize) -> Result<Segment, Fault> {
    match part {
        "" => return Err(Fault::EmptySegment { at }),
        "." | ".." => return Err(Fault::Climbs { at }),
        _ => {}
    }
    if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        if !is_name(name) {
            return Err(Fault::ParameterName { at });
        }
        return Ok(Segment::Parameter(name.into()));
    }
    for (offset, byte) in part.bytes().enumerate() {
        let at = at + offset;
        match byte {
            b'{' | b'}' => return Err(Fault::PartialParameter { at }),
            b'?' | b'#' | b'%' | b'\\' | 0..=0x1f | 0x7f => {
                return Err(Fault::BadByte { byte, at });
            }
            _ => {}
        }
    }
    Ok(Segment::Literal(part.into()))
}

/// Whether a path parameter may be called so: like a variable in most languages.
pub(super) fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl<'p> RequestPath<'p> {
    /// Splits the path of a URL at its slashes, then decodes each segment.
    pub fn decode(path: &'p str) -> Result<Self, TopicError> {
        match path.strip_prefix('/').unwrap_or(path) {
            "" => Ok(Self(Vec::new())),
            rest => rest.split('/').map(decode_path_segment).collect::<Result<_, _>>().map(Self),
        }
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for RoutePathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::NotAbsolute => f.write_str("path must begin with `/`"),
            Fault::EmptySegment { at } => write!(f, "path has an empty segment at byte {at}"),
            Fault::Climbs { at } => {
                write!(f, "path has a dot segment at byte {at}, which clients resolve")
            }
            Fault::BadByte { byte, at } => write!(
                f,
                "path has '{}' at byte {at}; it is written decoded, without query",
                byte.escape_ascii()
            ),
            Fault::PartialParameter { at } => write!(
                f,
                "path has a brace inside the segment at byte {at}; a parameter is a segment of its own, such as {{room}}"
            ),
            Fault::ParameterName { at } => write!(
                f,
                "the parameter at byte {at} needs a name of letters, digits and `_`, not beginning with a digit"
            ),
            Fault::Repeated { name } => write!(f, "path has `{name}` twice"),
            Fault::BuiltIn => f.write_str(
                "/topics, /topics/…, /publish and /ws are the node's own, choose another path",
            ),
        }
    }
}

impl std::error::Error for RoutePathError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RoutePath {
        text.parse().unwrap()
    }

    #[track_caller]
    fn fits(text: &str, request: &str, expected: Option<&[(&str, &str)]>) {
        let request = RequestPath::decode(request).unwrap();
        assert_eq!(path(text).captures(&request).as_deref(), expected, "{text}");
    }

    #[test]
    fn parameters_are_whole_segments_decoded_once() {
        fits("/", "/", Some(&[]));
        fits("/", "/a", None);
        fits("/events", "/events", Some(&[]));
        fits("/events", "/%65vents", Some(&[]));
        fits("/events", "/events/", None);
        fits("/events", "//events", None);
        fits("/events", "/Events", None);
        fits("/r\u{e4}ume/{id}", "/r%C3%A4ume/1", Some(&[("id", "1")]));
        fits("/chat/{room}", "/chat/room123", Some(&[("room", "room123")]));
        fits("/chat/{room}", "/chat/a%2Fb", Some(&[("room", "a/b")]));
        fits("/chat/{room}", "/chat/a%252Fb", Some(&[("room", "a%2Fb")]));
        fits("/chat/{room}", "/chat/{room}", Some(&[("room", "{room}")]));
        fits("/chat/{room}", "/chat/a+b", Some(&[("room", "a+b")]));
        fits("/chat/{room}", "/chat/", Some(&[("room", "")]));
        fits("/chat/{room}", "/chat", None);
        fits("/chat/{room}", "/chat/a/b", None);
        fits("/jobs/{job}/progress", "/jobs/7/progress", Some(&[("job", "7")]));
        fits("/{a}/{b}", "/1/2", Some(&[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn paths_that_can_t_be_are_refused_with_their_place() {
        let name = "needs a name of letters, digits and `_`, not beginning with a digit";
        for (text, reason) in [
            ("", "path must begin with `/`".to_owned()),
            ("chat", "path must begin with `/`".to_owned()),
            ("//", "path has an empty segment at byte 1".to_owned()),
            ("/a//b", "path has an empty segment at byte 3".to_owned()),
            ("/a/", "path has an empty segment at byte 3".to_owned()),
            ("/a/../b", "path has a dot segment at byte 3, which clients resolve".to_owned()),
            ("/a?b", "path has '?' at byte 2; it is written decoded, without query".to_owned()),
            ("/%41", "path has '%' at byte 1; it is written decoded, without query".to_owned()),
            ("/a\n", "path has '\\n' at byte 2; it is written decoded, without query".to_owned()),
            (
                "/a/b{c}",
                "path has a brace inside the segment at byte 4; a parameter is a segment of its own, such as {room}".to_owned(),
            ),
            ("/{}", format!("the parameter at byte 1 {name}")),
            ("/a/{1b}", format!("the parameter at byte 3 {name}")),
            ("/{a.b}", format!("the parameter at byte 1 {name}")),
            ("/{a}/x/{a}", "path has `{a}` twice".to_owned()),
        ] {
            assert_eq!(text.parse::<RoutePath>().unwrap_err().to_string(), reason, "{text:?}");
        }
        for built_in in ["/topics", "/topics/a", "/topics/{topic}", "/publish", "/ws"] {
            let error = built_in.parse::<RoutePath>().unwrap_err().to_string();
            assert!(error.contains("are the node's own"), "{built_in}: {error}");
        }
        for fine in ["/publish/{x}", "/ws/{x}", "/{topics}", "/topic", "/a b", "/a:b,c"] {
            assert!(fine.parse::<RoutePath>().is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_request_s_path_must_be_encoded_well() {
        for (request, reason) in [
            ("/a/%", "path has an incomplete percent-encoding at byte 0"),
            ("/%zz", "path has an incomplete percent-encoding at byte 0"),
            ("/%ff", "path is not UTF-8 after percent-decoding"),
        ] {
            assert_eq!(RequestPath::decode(request).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn the_closer_path_is_first_and_one_shape_fits_the_same() {
        for (closer, wider) in
            [("/a/b", "/a/{x}"), ("/a/{x}", "/{x}/b"), ("/a/{x}/{y}", "/{x}/b/c")]
        {
            assert!(path(closer).closeness() < path(wider).closeness(), "{closer} {wider}");
        }
        assert_eq!(path("/a/{x}").shape(), path("/a/{y}").shape());
        assert_ne!(path("/a/{x}").shape(), path("/a/x").shape());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[/{}a-b1%?\u{e4}.]{0,16}|.{0,24}", request in "[/{}a-b1%2F\u{e4}.]{0,16}|.{0,24}") {
            let route = text.parse::<RoutePath>();
            let request = RequestPath::decode(&request);
            if let (Ok(route), Ok(request)) = (route, request) {
                prop_assert_eq!(route.as_str(), &text);
                if let Some(captures) = route.captures(&request) {
                    prop_assert_eq!(captures.len(), route.parameters().count());
                }
            }
        }

        #[test]
        fn what_is_encoded_into_a_path_comes_out_literally(values in prop::collection::vec(".{1,12}", 1..4)) {
            let names: Vec<_> = (0..values.len()).map(|n| format!("p{n}")).collect();
            let route = names.iter().map(|name| format!("/x/{{{name}}}")).collect::<Vec<_>>().concat();
            let request = values.iter().map(|value| format!("/x/{}", percent_encode(value)));
            let request = request.collect::<Vec<_>>().concat();
            let request = RequestPath::decode(&request).unwrap();
            let route = path(&route);
            let captures = route.captures(&request).unwrap();
            let expected: Vec<_> = names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
            prop_assert_eq!(captures, expected);
        }
    }

    fn percent_encode(value: &str) -> String {
        value.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
    }
}
