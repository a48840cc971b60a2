//! Style and script of the page: parts of the program, under an address that names their content.

use std::io::Write as _;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::hub::cli::agents::words::WHYS;
use crate::hub::cli::rollouts::words::reasons;
use crate::hub::state::tokens::hex;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The number of bytes of the hash that name a version.
const VERSION_BYTES: usize = 8;

/// The script's modules, but for the first, which names them: the shell has them loaded at once.
pub(super) const MODULES: &[&str] = &[
    "words.js",
    "dom.js",
    "time.js",
    "api.js",
    "stream.js",
    "agents.js",
    "parts.js",
    "actions.js",
    "keys.js",
    "fleet.js",
    "overview.js",
    "rows.js",
    "trouble.js",
    "agent.js",
    "timeline.js",
    "rollouts.js",
    "rollout.js",
    "start.js",
    "lists.js",
];

/// The files that stand as they are served, with their types.
const FILES: &[(&str, &str, &str)] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("static/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("static/icon.svg")),
    ("theme.js", SCRIPT, include_str!("static/theme.js")),
    ("app.js", SCRIPT, include_str!("static/app.js")),
    ("dom.js", SCRIPT, include_str!("static/dom.js")),
    ("time.js", SCRIPT, include_str!("static/time.js")),
    ("api.js", SCRIPT, include_str!("static/api.js")),
    ("stream.js", SCRIPT, include_str!("static/stream.js")),
    ("agents.js", SCRIPT, include_str!("static/agents.js")),
    ("parts.js", SCRIPT, include_str!("static/parts.js")),
    ("actions.js", SCRIPT, include_str!("static/actions.js")),
    ("keys.js", SCRIPT, include_str!("static/keys.js")),
    ("fleet.js", SCRIPT, include_str!("static/fleet.js")),
    ("overview.js", SCRIPT, include_str!("static/overview.js")),
    ("rows.js", SCRIPT, include_str!("static/rows.js")),
    ("trouble.js", SCRIPT, include_str!("static/trouble.js")),
    ("agent.js", SCRIPT, include_str!("static/agent.js")),
    ("timeline.js", SCRIPT, include_str!("static/timeline.js")),
    ("rollouts.js", SCRIPT, include_str!("static/rollouts.js")),
    ("rollout.js", SCRIPT, include_str!("static/rollout.js")),
    ("start.js", SCRIPT, include_str!("static/start.js")),
    ("lists.js", SCRIPT, include_str!("static/lists.js")),
];

/// The words of the command line for the reasons of the API, as a module.
static WORDS: LazyLock<String> = LazyLock::new(|| {
    let why: serde_json::Map<_, _> = WHYS.iter().map(|(code, words)| ((*code).to_owned(), json!(words))).collect();
    format!("export default {};\n", json!({"agent": why, "rollout": reasons()}))
});

/// The version of all files together.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, _, text) in FILES.iter().copied().chain([("words.js", SCRIPT, WORDS.as_str())]) {
        hash.update(name);
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
    hex(&hash.finalize()[..VERSION_BYTES])
});

/// The path of the files.
static BASE: LazyLock<String> = LazyLock::new(|| format!("/dashboard/static/{}", *VERSION));

/// A file as it is served.
pub(super) struct Asset {
    name: &'static str,
    /// The type, as the header says it.
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
    /// The text, compressed: a third of it.
    pub(super) gzip: Vec<u8>,
}

/// All files.
static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let all = FILES.iter().copied().chain([("words.js", SCRIPT, WORDS.as_str())]);
    all.map(|(name, kind, text)| Asset { name, kind, text, gzip: compressed(text) }).collect()
});

fn compressed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Into memory: neither can fail.
    let written = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// Returns the path of the files, without a slash at its end.
pub(super) fn base() -> &'static str {
    &BASE
}

/// Returns a file; `None` if this version has no such file.
pub(super) fn find(version: &str, name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| version == *VERSION && asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound on all that a browser loads for the page, as it is sent, in bytes.
    const MAX_SENT: usize = 60_000;
    /// The same before it is compressed.
    const MAX_BYTES: usize = 120_000;

    fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        FILES.iter().map(|(name, _, text)| (*name, *text)).chain([("words.js", WORDS.as_str())])
    }

    #[test]
    fn the_page_is_light_and_has_nothing_from_outside() {
        let shell = [include_str!("templates/shell.html"), include_str!("templates/login.html")];
        let bytes = all().map(|(_, text)| text.len()).sum::<usize>() + shell[0].len();
        let sent = ASSETS.iter().map(|asset| asset.gzip.len()).sum::<usize>() + shell[0].len();
        assert!(sent <= MAX_SENT && bytes <= MAX_BYTES, "{sent} bytes, {bytes} uncompressed");
        for (name, text) in all().chain([("shell.html", shell[0]), ("login.html", shell[1])]) {
            let without_names = text.replace("http://www.w3.org/", "");
            for outside in ["http://", "https://", "url(", "@import"] {
                let found = without_names.replace("url(#", "").contains(outside);
                assert!(!found, "{name} has {outside}");
            }
        }
    }

    #[test]
    fn text_never_becomes_markup_or_script() {
        for (name, text) in all() {
            for sink in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "srcdoc",
                "DOMParser",
            ] {
                assert!(!text.contains(sink), "{name} has {sink}");
            }
        }
        for text in [include_str!("templates/shell.html"), include_str!("templates/login.html")] {
            for sink in ["|safe", "style=", "onclick", "javascript:"] {
                assert!(!text.contains(sink), "{sink}");
            }
        }
    }

    #[test]
    fn each_module_that_another_imports_is_served() {
        for (name, text) in all() {
            for import in text.lines().filter(|line| line.contains(" from './")) {
                let path = import.split('\'').nth(1).unwrap_or_default();
                let module = path.strip_prefix("./").unwrap_or_else(|| panic!("{name}: {import}"));
                assert!(MODULES.contains(&module), "{name} imports {module}, which the shell does not load ahead");
                assert!(find(&VERSION, module).is_some(), "{name} imports {module}");
            }
        }
        assert!(find("0", "app.js").is_none());
    }
}
