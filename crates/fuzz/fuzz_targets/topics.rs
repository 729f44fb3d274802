//! Topic names, lists of them in paths, and patterns.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel_protocol::{Topic, TopicPattern, topics_in_path};

fuzz_target!(|data: (&str, &str)| {
    let (name, text) = data;
    if let Ok(topics) = topics_in_path(name) {
        for topic in &topics {
            assert_eq!(Topic::new(topic.as_str()).as_ref(), Ok(topic));
        }
    }
    let Ok(pattern) = text.parse::<TopicPattern>() else { return };
    assert_eq!(pattern.to_string(), text);
    assert!(pattern.overlaps(&pattern));
    if let Ok(topic) = Topic::new(name) {
        let matches = pattern.matches(topic.as_str());
        // A name is a pattern too, which matches itself alone.
        let literal: TopicPattern = topic.as_str().parse().expect("every name is a pattern");
        assert!(literal.matches(topic.as_str()));
        assert_eq!(pattern.overlaps(&literal), matches);
    }
});
