use proptest::prelude::*;
use serde_json::json;

use super::*;

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

fn check(text: &str, max_depth: usize) -> Result<Document<'_>, JsonError> {
    Document::check(text.as_bytes(), max_depth)
}

fn refusal(text: &str, max_depth: usize) -> Refusal {
    let read = check(text, max_depth);
    let Err(JsonError::Refused(refusal)) = read else { panic!("{read:?}") };
    refusal
}

#[test]
fn the_limit_is_taken_and_one_more_is_not_and_the_field_is_named() {
    let text = |levels: usize| format!(r#"{{"a":1,"me":{},"z":[]}}"#, nested(levels));
    assert!(check(&text(MAX_JSON_DEPTH - 1), MAX_JSON_DEPTH).is_ok());
    let told = refusal(&text(MAX_JSON_DEPTH), MAX_JSON_DEPTH);
    assert_eq!(told, Refusal::TooDeep { field: "me".into(), found: 65, max: 64 });
    assert!(told.to_string().starts_with("nested 65 levels deep, at most 64"), "{told}");
    assert_eq!(refusal(&text(1_000_000), 64).field(), Some("me"));
    let long = format!(r#"{{"{}":{}}}"#, "é".repeat(1_000), nested(64));
    assert_eq!(refusal(&long, 64).field(), Some("é".repeat(50).as_str()));
}

#[test]
fn brackets_in_texts_are_no_levels() {
    let text = json!({"a": "[".repeat(500), "b\"[": "\\\"{{{", "c\\": ["]"]}).to_string();
    assert_eq!(check(&text, 2).unwrap().to_text().as_str(), text);
}

#[test]
fn what_is_no_json_is_told_as_that_however_deep() {
    for text in ["", "{", "[[[[[[[[", r#"{"a":[[[[}"#, "\"", "\"\\", "{\"$serde_json::private::RawValue\":"] {
        assert!(matches!(check(text, 3), Err(JsonError::NotJson(_))), "{text}");
    }
    for text in [r#"{"n":1e999}"#, r#"{"n":[-1e999]}"#] {
        assert_eq!(refusal(text, 3), Refusal::NumberOutOfRange, "{text}");
    }
    for text in [r#"{"n":NaN}"#, r#"{"n":1e999"#, r#"{"n":1} {}"#] {
        assert!(matches!(check(text, 3), Err(JsonError::NotJson(_))), "{text}");
    }
    for text in ["[1]", "[[[[]]]]", "7"] {
        assert!(matches!(check(text, 3), Err(JsonError::NotAnObject)), "{text}");
    }
}

#[test]
fn the_key_that_serde_json_takes_for_its_own_is_refused_wherever_it_stands_and_however_it_is_written() {
    let key = format!("\"{RESERVED_KEY}\"");
    for text in [
        format!(r#"{{{key}:"[[1]]"}}"#),
        format!(r#"{{"a":{{"z":1, {key} : 5}}}}"#),
        format!(r#"{{"a":[{{{}:5}}]}}"#, key.replace('$', "\\u0024")),
    ] {
        assert_eq!(refusal(&text, 64), Refusal::ReservedKey, "{text}");
    }
    let harmless = json!({"a": RESERVED_KEY, "b": format!("{RESERVED_KEY}s")}).to_string();
    assert!(check(&harmless, 64).is_ok());
}

#[test]
fn what_is_stored_is_read_beyond_the_limit_of_serde_json() {
    assert!(read_stored::<Value>(nested(131).as_bytes()).is_ok());
    assert!(read_stored::<Value>(nested(MAX_STORED_DEPTH + 1).as_bytes()).unwrap_err().contains("161 levels"));
    assert!(read_stored::<Value>(b"{} x").is_err());
}

fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(object) => 1 + object.values().map(depth_of).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Any document, in the depths that matter here.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[\\[\\]{}\"\\\\:a ]{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(12, 40, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[\\[{\"\\\\:b]{0,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_levels_of_a_text_are_those_of_its_value(value in any_json()) {
        prop_assert_eq!(Shape::of(value.to_string().as_bytes()).depth, depth_of(&value));
        prop_assert_eq!(Shape::of(format!("{value:#}").as_bytes()).depth, depth_of(&value));
    }

    #[test]
    fn what_is_brought_within_a_depth_is_within_it_and_what_was_stays_as_it_was(value in any_json(), max in 1_usize..6) {
        let object = json!({"a": value});
        let before = depth_of(&object);
        let after: Value = limit_depth(JsonText::of(&object), max).read().unwrap();
        prop_assert_eq!(depth_of(&after), before.min(max));
        prop_assert!(before > max || after == object);
    }

    #[test]
    fn no_text_makes_a_look_at_it_fail(text in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Shape::of(&text);
    }
}

#[test]
fn what_is_not_unicode_is_replaced_and_counted() {
    let document = Document::check(b"\xef\xbb\xbf {\"a\": \"\\ud83e caf\xe9\"}", 3).unwrap();
    assert_eq!((document.replaced(), document.fields().string("a").as_deref()), (2, Some("\u{fffd} caf\u{fffd}")));
    assert_eq!(document.to_text().as_str(), "{\"a\":\"\u{fffd} caf\u{fffd}\"}");
}
