//! Changes to a scenario's keys that the command line gives: `sessions.count=500`.

use anyhow::{Context, Result, ensure};
use toml::{Table, Value};

/// Tables of which one entry says which kind it is: another entry replaces it.
const ALTERNATIVES: [&[&str]; 2] = [&["pace"], &["topics", "shape"]];

/// Sets the key `path`, whose parts are between dots, to `value`, which is TOML, or a text if it can't be that. Entries
/// of arrays have numbers. What is wrong with it is found when the table is looked at.
pub fn set(table: &mut Table, path: &str, value: &str) -> Result<()> {
    let parts: Vec<&str> = path.split('.').collect();
    ensure!(parts.iter().all(|part| !part.is_empty()), "--set {path}: a part of the key is empty");
    set_in(table, path, &parts, 0, parsed(value))
}

/// Sets what `parts` name from number `depth` on.
fn set_in(table: &mut Table, path: &str, parts: &[&str], depth: usize, value: Value) -> Result<()> {
    let part = parts[depth];
    if ALTERNATIVES.contains(&&parts[..depth]) && !table.contains_key(part) {
        // Another kind takes the place of the one that was there.
        table.clear();
    }
    let Some(next) = parts.get(depth + 1) else {
        table.insert(part.to_owned(), value);
        return Ok(());
    };
    let entry = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
    let (inner, depth) = match entry {
        Value::Array(entries) => {
            let count = entries.len();
            let found = next.parse().ok().and_then(|index: usize| entries.get_mut(index));
            let found = found.filter(|_| depth + 2 < parts.len());
            let found = found.with_context(|| {
                format!("--set {path}: {part} has {count} entries, which have keys of their own")
            })?;
            (found, depth + 2)
        }
        other => (other, depth + 1),
    };
    if inner.is_str() {
        // A kind without entries of its own, where one with entries is set.
        *inner = Value::Table(Table::new());
    }
    let kind = inner.type_str();
    let inner = inner.as_table_mut();
    let inner = inner.with_context(|| format!("--set {path}: {part} is {kind}, without keys"))?;
    set_in(inner, path, parts, depth, value)
}

fn parsed(value: &str) -> Value {
    let line = toml::from_str::<Table>(&format!("value = {value}"));
    let value_of_line = line.ok().and_then(|mut line| line.remove("value"));
    value_of_line.unwrap_or_else(|| Value::String(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, path: &str, value: &str, expected: &str) {
        let mut table: Table = toml::from_str(text).unwrap();
        set(&mut table, path, value).unwrap();
        assert_eq!(table, toml::from_str(expected).unwrap(), "{path}={value}");
    }

    #[test]
    fn values_are_what_toml_makes_of_them() {
        check("a = 1", "a", "2", "a = 2");
        check("", "a.b", "2.5", "a = { b = 2.5 }");
        check("", "a", "true", "a = true");
        check("", "a", "one", "a = 'one'");
        check("", "a", "{ b = [1] }", "a = { b = [1] }");
        check("a = [{ b = 1 }, { b = 2 }]", "a.1.b", "3", "a = [{ b = 1 }, { b = 3 }]");
    }

    #[test]
    fn one_kind_replaces_another() {
        let closed = "pace = { closed = { at_hand = 1 } }";
        check(closed, "pace.open.per_second", "5", "pace = { open = { per_second = 5 } }");
        check(closed, "pace.closed.at_hand", "8", "pace = { closed = { at_hand = 8 } }");
        let rooms = "topics = { shape = { rooms = { members = 9 } } }";
        check("topics = { shape = 'one' }", "topics.shape.rooms.members", "9", rooms);
        check(rooms, "topics.shape", "each", "topics = { shape = 'each' }");
        check(
            rooms,
            "topics.per_session",
            "2",
            "topics = { per_session = 2, shape = { rooms = { members = 9 } } }",
        );
    }

    #[test]
    fn what_can_not_be_set_is_named() {
        for (path, reason) in
            [("a..b", "empty"), ("n.b", "n is integer, without keys"), ("l.7.b", "1 entries")]
        {
            let mut table: Table = toml::from_str("n = 1\nl = [{ b = 1 }]").unwrap();
            let error = set(&mut table, path, "1").unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_key_and_value_set_without_a_panic(path in "[a-z0-9.]{0,12}", value in "\\PC{0,12}") {
            let mut table: Table = toml::from_str("a = 1\nb = [1]\npace = { c = 1 }").unwrap();
            let _ = set(&mut table, &path, &value);
        }
    }
}
