//! JSON as others may write it, for the properties that what is taken is read again: at any depth around the limits,
//! with the keys and numbers that readers stumble over.

use proptest::prelude::*;

use crate::protocol::RESERVED_KEY;

/// One value's text.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let depth = prop_oneof![4 => 0_usize..6, 4 => 55_usize..70, 1 => 118_usize..135, 1 => Just(3_000_usize)];
    (depth, any::<u64>(), leaf()).prop_map(|(depth, kinds, leaf)| {
        let opens = |level: usize| kinds >> (level % 64) & 1 == 0;
        let begin: String = (0..depth).map(|level| if opens(level) { "[" } else { r#"{"k":"# }).collect();
        let end: String = (0..depth).rev().map(|level| if opens(level) { "]" } else { "}" }).collect();
        format!("{begin}{leaf}{end}")
    })
}

/// One object's text, of one field of that name.
pub(crate) fn object(field: &'static str) -> impl Strategy<Value = String> {
    value().prop_map(move |value| format!(r#"{{"{field}":{value}}}"#))
}

fn leaf() -> impl Strategy<Value = String> {
    let reserved = format!(r#"{{"z":1,"{RESERVED_KEY}":5}}"#);
    let first = format!(r#"{{"{RESERVED_KEY}":"[[[]]]"}}"#);
    let escaped = reserved.replace('$', "\\u0024");
    const FIXED: &[&str] = &[
        "null",
        "1e300",
        "-0.0",
        "18446744073709551615",
        "-9223372036854775808",
        "1e-320",
        "9932337612512.865",
        r#""\ud83e\udd16 [{\" \\""#,
        r#"{"type":"x","is":"queued","task_id":"t","kind":"finished","verdict":"failed"}"#,
    ];
    prop_oneof![
        8 => prop::sample::select(FIXED).prop_map(str::to_owned),
        4 => "[ -~]{0,12}".prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => Just(reserved),
        1 => Just(first),
        1 => Just(escaped),
    ]
}
