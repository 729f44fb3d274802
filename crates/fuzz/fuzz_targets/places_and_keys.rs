//! `after` and `key` in the JSON that clients send: taken exactly if the place or the key is good,
//! refused in a reply of one line otherwise; and whatever else stands there, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use umbel_protocol::json::{Command, ErrorCode, Reply, Request, RequestError, requests};
use umbel_protocol::publish::{Item, parse};
use umbel_protocol::{After, IdempotencyKey};

fuzz_target!(|data: (&str, &str)| {
    let (text, raw) = data;
    subscribes(text);
    publishes(text);
    // JSON of any kind, or none, in the place of a string.
    for line in [
        format!(r#"{{"op":"subscribe","topic":"a","after":{raw}}}"#),
        format!(r#"{{"op":"subscribe","topics":[{{"topic":"a","after":{raw}}}]}}"#),
        format!(r#"{{"op":"publish","topic":"a","text":"","key":{raw}}}"#),
    ] {
        requests(&line).for_each(drop);
        let body = line.replace(r#""op":"publish","#, "");
        let _ = (parse(body.as_bytes(), false), parse(body.as_bytes(), true));
    }
});

fn subscribes(after: &str) {
    let place = After::parse(after);
    let one = json!({"op": "subscribe", "topic": "a", "after": after});
    let wishes = [json!({"topic": "b"}), json!({"topic": "a", "after": after})];
    let several = json!({"op": "subscribe", "topics": wishes});
    for command in [one, several] {
        match (command_of(&command), place.clone()) {
            (Ok(Command::Subscribe(wishes)), Ok(place)) => {
                let after = wishes.iter().map(|(topic, after)| (topic.as_str(), *after));
                assert!(
                    after.eq([("b", None), ("a", Some(place))].into_iter().skip(2 - wishes.len()))
                );
            }
            (Err(()), Err(_)) => {}
            (got, place) => panic!("{command}: {got:?}, though the place is {place:?}"),
        }
    }
}

fn publishes(key: &str) {
    let expected = IdempotencyKey::new(key);
    let mut message = json!({"topic": "a", "text": "x", "key": key});
    let body = message.to_string();
    for lines in [false, true] {
        let mut items = parse(body.as_bytes(), lines).expect("it is an object").items;
        match (items.pop(), expected.clone()) {
            (Some(Ok(Item { key, .. })), Ok(expected)) => assert_eq!(key, Some(expected)),
            (Some(Err(refused)), Err(_)) => assert_eq!(refused.status, 400),
            (got, expected) => panic!("{body}: {got:?}, though the key is {expected:?}"),
        }
    }
    message["op"] = "publish".into();
    match (command_of(&message), expected) {
        (Ok(Command::Publish(publish)), Ok(expected)) => assert_eq!(publish.key, Some(expected)),
        (Err(()), Err(_)) => {}
        (got, expected) => panic!("{message}: {got:?}, though the key is {expected:?}"),
    }
}

/// The one command of a frame, if it isn't refused.
fn command_of(command: &Value) -> Result<Command, ()> {
    let frame = command.to_string();
    let mut all = requests(&frame);
    let first = all.next().expect("there is a command");
    assert!(all.next().is_none(), "JSON has its line breaks escaped");
    match first {
        Ok(Request { command, .. }) => Ok(command),
        Err(RequestError::Refused { id, code, message }) => {
            assert_eq!(code, ErrorCode::BadRequest);
            let mut reply = Vec::new();
            Reply::Error { code, message: &message }.write(&mut reply, id);
            assert!(!reply.ends_with(b"\n") && reply.ends_with(b"}"));
            Err(())
        }
        Err(RequestError::Unparseable(message)) => panic!("{frame}: {message}"),
    }
}
