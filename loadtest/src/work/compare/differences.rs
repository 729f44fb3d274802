//! Where the conditions of two results differ, key by key.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::bench::machine::Machine;

/// One key whose values differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its path.
    pub key: String,
    /// Of the first result.
    pub a: String,
    /// Of the second.
    pub b: String,
}

/// All leaves that differ between `a` and `b`, under `key`.
pub fn between<T: Serialize>(key: &str, a: &T, b: &T) -> Vec<Difference> {
    let value = |it: &T| serde_json::to_value(it).unwrap_or(Value::Null);
    let mut differences = Vec::new();
    walk(key, &value(a), &value(b), &mut differences);
    differences
}

/// What differs of where and of what two results are; that they are of different times is no difference.
pub fn of_machines(a: &Machine, b: &Machine) -> Vec<Difference> {
    let b = Machine { date: a.date.clone(), ..b.clone() };
    between("machine", a, &b)
}

fn walk(key: &str, a: &Value, b: &Value, differences: &mut Vec<Difference>) {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned();
                let (left, right) = (of(left).unwrap_or_default(), of(right).unwrap_or_default());
                walk(&format!("{key}.{name}"), &left, &right, differences);
            }
        }
        _ if a == b => {}
        _ => differences.push(Difference { key: key.to_owned(), a: shown(a), b: shown(b) }),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        _ => value.to_string(),
    }
}
