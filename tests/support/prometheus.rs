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

impl Family {
    /// The sum of a histogram without labels.
    pub fn sum(&self) -> f64 {
        self.part("_sum", None).unwrap_or_default()
    }

    /// How many observations a histogram without labels has.
    pub fn count(&self) -> f64 {
        self.part("_count", None).unwrap_or_default()
    }

    /// How many of them are at most that large.
    pub fn bucket(&self, le: &str) -> Option<f64> {
        self.part("_bucket", Some(le))
    }

    fn part(&self, suffix: &str, le: Option<&str>) -> Option<f64> {
        let is = |sample: &&Sample| sample.suffix == suffix && sample.label("le") == le;
        self.samples.iter().find(is).map(|sample| sample.value)
    }
}

/// One line with a value.
#[derive(Debug, PartialEq)]
pub struct Sample {
    /// `_bucket`, `_sum` or `_count` in a histogram, else empty.
    pub suffix: String,
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
            let same = |other: &Sample| other.suffix == sample.suffix && other.labels == sample.labels;
            if family.samples[..index].iter().any(same) {
                return Err(format!("{name} has a sample twice"));
            }
            if !sample.value.is_finite() || (counter && sample.value < 0.0) {
                return Err(format!("{name} is {}", sample.value));
            }
        }
        if family.kind.as_deref() == Some("histogram") {
            check_histogram(family).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    Ok(families)
}

/// A histogram without labels: its buckets grow up to `+Inf`, which has all observations.
fn check_histogram(family: &Family) -> Result<(), String> {
    let buckets: Vec<&Sample> = family.samples.iter().filter(|sample| sample.suffix == "_bucket").collect();
    let mut before = (f64::NEG_INFINITY, 0.0);
    for bucket in &buckets {
        let le = bucket.label("le").ok_or("a bucket without le")?;
        let bound: f64 = le.parse().map_err(|error| format!("le {le:?}: {error}"))?;
        if bound <= before.0 || bucket.value < before.1 {
            return Err(format!("the bucket {le} is smaller than the one before"));
        }
        before = (bound, bucket.value);
    }
    if before.0 != f64::INFINITY || family.bucket("+Inf") != Some(family.count()) {
        return Err("no bucket +Inf, or one that differs from the count".into());
    }
    if family.samples.len() != buckets.len() + 2 || family.part("_sum", None).is_none() {
        return Err("a sample beside buckets, sum and count".into());
    }
    Ok(())
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
        if name != current || !["counter", "gauge", "histogram"].contains(&kind) {
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
    let family = families.get_mut(current.as_str()).ok_or("a sample before its family")?;
    let suffix = name.strip_prefix(current.as_str()).ok_or("a sample outside its family")?;
    let histogram = family.kind.as_deref() == Some("histogram");
    if histogram != ["_bucket", "_sum", "_count"].contains(&suffix) || (!histogram && !suffix.is_empty()) {
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
    family.samples.push(Sample { suffix: suffix.to_owned(), labels, value });
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
