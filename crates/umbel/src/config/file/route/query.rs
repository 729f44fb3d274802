//! What a route says of parameters of the query: a bound, and what an empty one means.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::super::super::value::Value;
use super::super::unknown_key;
use super::{Placed, RouteReader};
use crate::route::{Count, Empty, Parameter, QueryParameter, Template};

/// How many values a list in the query may have unless the route says otherwise.
const DEFAULT_MAX: usize = 50;

/// The most that it may say: each value may be a topic of the session.
const MAX_MAX: u64 = 1000;

const FORM: &str = "a table such as { max = 50, empty = \"refuse\" }";

/// What is set for one parameter.
#[derive(Debug, Default)]
struct Said {
    at: Range<usize>,
    max: Option<usize>,
    empty: Empty,
}

impl RouteReader<'_, '_, '_> {
    /// The parameters of the query that templates name, with what the route says of them.
    pub(super) fn query_parameters(
        &mut self,
        templates: &[Placed<&Template>],
    ) -> Vec<QueryParameter> {
        let mut said = self.said();
        let mut parameters = Vec::new();
        for (name, is_list) in self.named(templates) {
            let Said { at, max, empty } = said.remove(name).unwrap_or_default();
            if max.is_some() && !is_list {
                let fault = format!("`max` is for lists, {{query.{name}[]}}");
                self.fault(&at, format!("routes.query.{name}: {fault}"));
            }
            let count =
                if is_list { Count::List { max: max.unwrap_or(DEFAULT_MAX) } } else { Count::One };
            parameters.push(QueryParameter { name: name.into(), count, empty });
        }
        for (name, Said { at, .. }) in said {
            self.fault(&at, format!("routes.query.{name}: no template has {{query.{name}}}"));
        }
        parameters
    }

    /// The names in templates, each with whether it is a list.
    fn named<'n>(&mut self, templates: &[Placed<&'n Template>]) -> BTreeMap<&'n str, bool> {
        let mut named = BTreeMap::new();
        for (template, at) in templates {
            for parameter in template.parameters() {
                let (name, is_list) = match parameter {
                    Parameter::Query(name) => (&**name, false),
                    Parameter::QueryList(name) => (&**name, true),
                    _ => continue,
                };
                if *named.entry(name).or_insert(is_list) != is_list {
                    let fault = "is a list in one place and one value in another";
                    self.fault(at, format!("routes: `{name}` of the query {fault}"));
                }
            }
        }
        named
    }

    fn said(&mut self) -> BTreeMap<String, Said> {
        let mut said = BTreeMap::new();
        let Some(table) = self.inner_table("query", "{ metrics = { max = 50 } }") else {
            return said;
        };
        for (name, value) in table {
            let DeValue::Table(table) = value.get_ref() else {
                let fault = format!("routes.query.{}: must be {FORM}", name.get_ref());
                self.fault(&value.span(), fault);
                continue;
            };
            let of_one = self.said_of_one(name.get_ref(), table);
            said.insert(name.get_ref().to_string(), Said { at: name.span(), ..of_one });
        }
        said
    }

    fn said_of_one(&mut self, name: &str, table: &DeTable<'_>) -> Said {
        let mut said = Said::default();
        for (key, value) in table {
            let value = Value::of(value.get_ref());
            let read = match key.get_ref().as_ref() {
                "max" => {
                    value.count(&(1..=MAX_MAX)).map(|max| said.max = usize::try_from(max).ok())
                }
                "empty" => value
                    .word(&[("refuse", Empty::Refuse), ("wait", Empty::Wait)])
                    .map(|empty| said.empty = empty),
                other => Err(unknown_key(other, ["max", "empty"].into_iter())),
            };
            if let Err(fault) = read {
                self.fault(&key.span(), format!("routes.query.{name}.{}: {fault}", key.get_ref()));
            }
        }
        said
    }
}
