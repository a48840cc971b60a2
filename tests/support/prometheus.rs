//! A strict reader of Prometheus' text format: whatever a lenient one lets pass (a sample without its type, one family in
//! two places, a wrong escape, a sample twice) is an error here. Source: prometheus.io, "Exposition formats".

use std::collections::BTreeMap;

/// Everything about one name.
#[derive(Debug, Default)]
pub struct Family {
    pub help: Option<String>,
    pub kind: Option<String>,
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Debug, PartialEq)]
pub struct Sample {
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the whole text; the error names the line.
pub fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    if !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        read_line(line, &mut families, &mut current).map_err(|why| format!("{why} in {line:?}"))?;
    }
    for (name, family) in &families {
        if family.help.is_none() || family.kind.is_none() {
            return Err(format!("{name} has no help or no type"));
        }
        let counter = family.kind.as_deref() == Some("counter");
        if counter != name.ends_with("_total") {
            return Err(format!("{name}: a counter ends in _total, and nothing else does"));
        }
        for (index, sample) in family.samples.iter().enumerate() {
            if family.samples[..index].iter().any(|other| other.labels == sample.labels) {
                return Err(format!("{name} has a sample twice"));
            }
            if !sample.value.is_finite() || (counter && sample.value < 0.0) {
                return Err(format!("{name} is {}", sample.value));
            }
        }
    }
    Ok(families)
}

fn read_line(line: &str, families: &mut BTreeMap<String, Family>, current: &mut String) -> Result<(), String> {
    if let Some(rest) = line.strip_prefix("# HELP ") {
        let (name, help) = rest.split_once(' ').ok_or("no help text")?;
        valid(name, true)?;
        if families.contains_key(name) {
            return Err("a family in two places".into());
        }
        families.entry(name.to_owned()).or_default().help = Some(unescape(help, false)?);
        name.clone_into(current);
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix("# TYPE ") {
        let (name, kind) = rest.split_once(' ').ok_or("no type")?;
        if name != current || !["counter", "gauge"].contains(&kind) {
            return Err("a type of another family, or an unknown one".into());
        }
        let family = families.get_mut(name).ok_or("a type before its help")?;
        if family.kind.replace(kind.to_owned()).is_some() || !family.samples.is_empty() {
            return Err("a second type, or one after a sample".into());
        }
        return Ok(());
    }
    let end = line.find(['{', ' ']).ok_or("neither a comment nor a sample")?;
    let name = &line[..end];
    valid(name, true)?;
    if name != current {
        return Err("a sample outside its family".into());
    }
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(labels) => read_labels(labels)?,
        None => (Vec::new(), &line[end..]),
    };
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    if value.is_empty() || value.contains(' ') {
        return Err("no value, or more than one".into());
    }
    let value = value.parse().map_err(|error| format!("{error}"))?;
    families.get_mut(name).ok_or("no such family")?.samples.push(Sample { labels, value });
    Ok(())
}

type Labels<'a> = (Vec<(String, String)>, &'a str);

fn read_labels(mut rest: &str) -> Result<Labels<'_>, String> {
    let mut labels: Vec<(String, String)> = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        valid(name, false)?;
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.ok_or("a label without an end")?;
        if labels.iter().any(|(other, _)| other == name) {
            return Err("a label twice".into());
        }
        labels.push((name.to_owned(), unescape(&after[..end], true)?));
        rest = &after[end + 1..];
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = rest.strip_prefix(',').ok_or("neither a comma nor the end of the labels")?;
    }
}

fn valid(name: &str, colons: bool) -> Result<(), String> {
    let mut chars = name.chars();
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
    if chars.next().is_some_and(first) && chars.all(|c| first(c) || c.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("{name:?} is no name"))
}

fn unescape(text: &str, quotes: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quotes) {
            ('\\', _) => match (chars.next(), quotes) {
                (Some('\\'), _) => out.push('\\'),
                (Some('n'), _) => out.push('\n'),
                (Some('"'), true) => out.push('"'),
                (other, _) => return Err(format!("an unknown escape {other:?}")),
            },
            ('"', true) => return Err("a bare quote".into()),
            (other, _) => out.push(other),
        }
    }
    Ok(out)
}
