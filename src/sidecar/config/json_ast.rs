//! A JSON syntax tree with the position of every value, so that a wrong value can be named by line and column even when
//! keys repeat or nest. Syntax errors are serde_json's; the positions are
//! `jsonc_parser`'s, which keeps repeated keys.

use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, ast, parse_to_ast};

/// A value with its position and source text.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// The byte offset of the value in the text.
    pub(super) at: usize,
    /// The value as written.
    pub(super) raw: &'a str,
    pub(super) value: Value<'a>,
}

/// A value by its kind. Scalars are decoded; numbers stay as written.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(String),
    List(Vec<Node<'a>>),
    Object(Vec<Member<'a>>),
}

/// One `"key": value` of an object, in the order written; keys may repeat.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) key: String,
    /// The byte offset of the key in the text.
    pub(super) key_at: usize,
    pub(super) value: Node<'a>,
}

/// The place where the text is not JSON, with serde_json's message.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) detail: String,
}

/// Returns the line and column of the byte offset `at`, both from 1; columns count characters.
pub(super) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Parses one JSON value.
///
/// # Errors
/// Returns serde_json's error with its line and column.
pub(super) fn parse(text: &str) -> Result<Node<'_>, SyntaxError> {
    // serde_json checks the syntax, and the depth of at most 128; the walk below relies on both.
    serde_json::from_str::<serde_json::Value>(text).map_err(|error| {
        let full = error.to_string();
        let detail = full.split(" at line ").next().unwrap_or(&full).to_owned();
        SyntaxError { line: error.line(), column: error.column(), detail }
    })?;
    let unread = |detail: String| SyntaxError { line: 1, column: 1, detail };
    // Lenient beyond JSON, which does not matter here.
    let parsed = parse_to_ast(text, &CollectOptions::default(), &ParseOptions::default());
    let value = parsed.map_err(|error| unread(error.to_string()))?.value;
    Ok(node(text, value.ok_or_else(|| unread("not JSON".into()))?))
}

fn node<'a>(text: &'a str, value: ast::Value<'a>) -> Node<'a> {
    let range = value.range();
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(it) => Value::Bool(it.value),
        ast::Value::NumberLit(it) => Value::Number(it.value),
        ast::Value::StringLit(it) => Value::Text(it.value.into_owned()),
        ast::Value::Array(it) => Value::List(it.elements.into_iter().map(|value| node(text, value)).collect()),
        ast::Value::Object(it) => {
            Value::Object(it.properties.into_iter().map(|member| self::member(text, member)).collect())
        }
    };
    Node { at: range.start, raw: text.get(range.start..range.end).unwrap_or_default(), value }
}

fn member<'a>(text: &'a str, member: ast::ObjectProp<'a>) -> Member<'a> {
    Member { key_at: member.range.start, key: member.name.into_string(), value: node(text, member.value) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(node: &Node<'_>) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(yes) => (*yes).into(),
            Value::Number(raw) => serde_json::from_str(raw).unwrap(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(plain).collect::<Vec<_>>().into(),
            Value::Object(members) => members
                .iter()
                .map(|member| (member.key.clone(), plain(&member.value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_every_value(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(plain(&parse(&text).unwrap()), serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }

        #[test]
        fn never_panics_on_any_text(text in ".*") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn names_the_line_and_column_of_a_nested_value() {
        let text = "{\n  \"a\": {\"ä\": [1,\n   2]}\n}";
        let root = parse(text).unwrap();
        let Value::Object(members) = &root.value else { panic!("an object") };
        let Value::Object(inner) = &members[0].value.value else { panic!("an object") };
        let Value::List(items) = &inner[0].value.value else { panic!("a list") };
        assert_eq!(line_column(text, items[0].at), (2, 15));
        assert_eq!(line_column(text, items[1].at), (3, 4));
    }
}
