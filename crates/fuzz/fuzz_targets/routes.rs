//! Paths, templates and stamps of routes, and the requests that meet them: never a panic, no value
//! that becomes more than one segment, no member that a client can keep from being set.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::route::{RequestPath, RoutePath, Template, TopicTemplate};
use umbel_protocol::json::with_members;

fuzz_target!(|data: (&str, &str, &str)| {
    let (text, request, object) = data;
    if let Ok(template) = text.parse::<Template>() {
        assert_eq!(template.to_string(), text);
        let _ = TopicTemplate::new(template);
    }
    if let (Ok(route), Ok(request)) = (text.parse::<RoutePath>(), RequestPath::decode(request))
        && let Some(captures) = route.captures(&request)
    {
        assert_eq!(captures.len(), route.parameters().count());
    }
    let filled = umbel::fuzzing::topics("x.{a}.{query.q[]}", "/{a}", request, object);
    for topic in filled.into_iter().flatten() {
        assert_eq!(topic.as_str().split(['.', '/']).count(), 3);
    }
    if let Ok(stamped) = with_members(object, &[("user", "\"ann\"".to_owned())]) {
        let once = stamped.matches("\"user\":\"ann\"").count();
        assert!(once >= 1);
        let again = with_members(&stamped, &[("user", "\"ann\"".to_owned())]);
        assert_eq!(again.expect("it is an object"), stamped);
    }
});
