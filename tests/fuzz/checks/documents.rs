//! What an agent's session writes, and what a client sends: results, printed output, and bodies.
//!
//! Asserted: what is taken is written and read as the same value, by every later reader; a text that was made readable
//! once stays as it is; a printed failure is never a success.

use agentcom::protocol::{Document, JsonFields, MAX_JSON_DEPTH, MAX_RESULT_DEPTH, repair};
use agentcom::sidecar::agent::supervised::printed_result;
use serde_json::Value;

/// Checks what becomes of one input.
pub fn check(bytes: &[u8]) {
    let readable = repair(bytes);
    let again = repair(readable.text.as_bytes());
    assert_eq!((&again.text, again.replaced), (&readable.text, 0));

    if let Ok(document) = Document::check(bytes, MAX_JSON_DEPTH) {
        let text = document.to_text();
        let value: Value = serde_json::from_str(text.as_str()).expect("a document that was checked");
        assert_eq!(serde_json::from_str::<Value>(&readable.text).expect("the same document"), value);
        let fields = document.fields();
        let joined: Value = serde_json::from_str(fields.to_text().as_str()).expect("the same fields");
        assert_eq!(joined, value);
        assert_eq!(text.read::<JsonFields>().expect("an object"), fields);
    }

    let output = String::from_utf8_lossy(bytes);
    let printed = printed_result(&output, Default::default()).fields;
    assert!(Document::check(printed.to_text().as_str().as_bytes(), MAX_RESULT_DEPTH).is_ok(), "{printed:?}");
    let failed = printed_result(&format!("{output}\n{{\"status\":\"failed\"}}"), Default::default());
    assert_eq!(failed.fields.string("status").as_deref(), Some("failed"), "{output}");
}
