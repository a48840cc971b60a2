//! One table of ways to write a JSON object, and how each is to be read wherever it comes in.

/// How an object is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Its `output` is this text.
    Output(&'static str),
    /// It is not taken: the text is a part of the reason.
    Refused(&'static str),
}

/// A way to write an object.
pub struct Encoding {
    pub name: &'static str,
    before: &'static [u8],
    /// The value of `output`, and whatever follows it.
    output: &'static [u8],
    after: &'static [u8],
    pub reading: Reading,
    /// Whether the bytes are UTF-8, and so may come in a text frame.
    pub is_utf8: bool,
}

impl Encoding {
    /// Returns the object with this status, as bytes.
    pub fn object(&self, status: &str) -> Vec<u8> {
        let begin = format!("{{\"status\":\"{status}\",\"reason\":\"tests fail\",\"output\":");
        [self.before, begin.as_bytes(), self.output, b"}", self.after].concat()
    }
}

/// Returns the table.
pub fn all() -> Vec<Encoding> {
    let plain = |name, output, reading| Encoding { name, before: b"", output, after: b"", reading, is_utf8: true };
    let deep: &'static [u8] = Box::leak(format!("{}{}", "[".repeat(150), "]".repeat(150)).into_bytes().into());
    vec![
        plain("UTF-8", "\"caf\u{e9} \u{1f916}\"".as_bytes(), Reading::Output("caf\u{e9} \u{1f916}")),
        plain("escapes", br#""\u0063af\u00e9 \ud83e\udd16\/""#, Reading::Output("caf\u{e9} \u{1f916}/")),
        plain("half a pair", br#""done \ud83e""#, Reading::Output("done \u{fffd}")),
        plain("the other half", br#""\udd16 done""#, Reading::Output("\u{fffd} done")),
        plain("two fields of one name", br#""first","output":"last""#, Reading::Output("last")),
        plain("whitespace", b"\n\t\"done\"\r\n ", Reading::Output("done")),
        Encoding { before: b"\xef\xbb\xbf", ..plain("a byte order mark", b"\"done\"", Reading::Output("done")) },
        Encoding { is_utf8: false, ..plain("Latin-1", b"\"caf\xe9\"", Reading::Output("caf\u{fffd}")) },
        Encoding { is_utf8: false, ..plain("half a character", b"\"\xf0\x9f\"", Reading::Output("\u{fffd}")) },
        plain("a number that is none", br#""done","n":NaN"#, Reading::Refused("expected value")),
        plain("a number out of range", br#""done","n":1e999"#, Reading::Refused("number out of range")),
        plain("too deep", deep, Reading::Refused("nested 151 levels deep")),
        plain("a reserved key", br#"{"$serde_json::private::RawValue":"1"}"#, Reading::Refused("is not taken")),
    ]
}

/// Returns the table for a terminal, in whose output other things stand around the object.
pub fn printed() -> Vec<Encoding> {
    let around = |name, before, after| Encoding {
        name,
        before,
        output: b"\"done\"",
        after,
        reading: Reading::Output("done"),
        is_utf8: true,
    };
    let mut table = all();
    table.extend([
        around("colours", b"\x1b[1;32m", b"\x1b[0m\n"),
        around("a title", b"\x1b]0;working\x07", b"\n"),
        around("a banner", b"warming up\n", b"\n"),
        around("a trailer", b"", b"\nnotice: a new version is out\n"),
        around("a progress line", b"10 %\r100 %\r\n", b" (took 3 s)\n"),
        around("other objects", b"{\"status\":\"success\",\"output\":\"no\"}\n", b"\n{\"code\":200}\n{ no JSON }\n"),
    ]);
    table
}
