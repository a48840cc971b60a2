//! Reads `labels`.

use crate::protocol::{Labels, MAX_LABELS, check_label_key, check_label_value};
use crate::sidecar::config::check::reader::Reader;
use crate::sidecar::config::json_ast::{Member, Value};

impl Reader<'_> {
    pub(in crate::sidecar::config) fn labels(&mut self, key: &'static str) -> Labels {
        let Some(members) = self.object(key, "an object of texts such as {\"pool\": \"gpu\"}") else {
            return Labels::new();
        };
        let mut labels = Labels::new();
        // Of repeated keys the last one counts.
        for member in members {
            if let Some(value) = self.label(key, member) {
                labels.insert(member.key.clone(), value);
            }
        }
        if labels.len() > MAX_LABELS {
            let found = format!("{} labels", labels.len());
            let at = self.find(key).map(|node| node.at);
            self.report(at, key, found, &format!("at most {MAX_LABELS} of them"));
        }
        labels
    }

    fn label(&mut self, key: &str, member: &Member<'_>) -> Option<String> {
        // The token may be pasted anywhere.
        let name = self.redacted(&format!("{key}.{}", member.key));
        if let Err(why) = check_label_key(&member.key) {
            let found = format!("the key \"{}\"", member.key);
            self.report(Some(member.key_at), &name, found, &why.to_string());
            return None;
        }
        match &member.value.value {
            Value::Text(value) => {
                if let Err(why) = check_label_value(value) {
                    self.wrong(Some(&member.value), &name, &why.to_string());
                }
                Some(value.clone())
            }
            // As with other keys, null stands for nothing.
            Value::Null => None,
            Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Object(_) => {
                self.wrong(Some(&member.value), &name, "a text: \"7\" in place of 7");
                None
            }
        }
    }
}
