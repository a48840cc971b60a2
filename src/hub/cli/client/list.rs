//! Lists, which the hub answers in pages.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::common::http_client::percent_encoded;
use crate::hub::cli::client::{Client, Failure, value};

/// The number of items that one request asks for.
const PAGE_ITEMS: usize = 1_000;
/// The number of items from which on a list is none of a hub's: a hub keeps fewer of everything.
const MAX_ITEMS: usize = 1_000_000;

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    next_cursor: Option<Value>,
}

/// What was read of a list.
#[derive(Debug)]
pub(in crate::hub::cli) struct Items {
    /// The items, as the hub sent them.
    pub(in crate::hub::cli) raw: Vec<Box<RawValue>>,
    /// Whether there are more.
    pub(in crate::hub::cli) more: bool,
}

impl Client {
    /// Returns the items of a list, page by page, until there are `limit` of them.
    ///
    /// # Errors
    /// The hub cannot be asked, or refuses, or the list has no end.
    pub(in crate::hub::cli) async fn list(
        &mut self,
        path: &str,
        parameters: &[(&str, Option<String>)],
        limit: Option<usize>,
    ) -> Result<Items, Failure> {
        let (mut raw, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let left = limit.map_or(PAGE_ITEMS, |limit| limit - raw.len());
            let mut query = format!("{path}?limit={}", left.min(PAGE_ITEMS));
            let given = parameters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
            for (name, value) in given.chain(cursor.as_deref().map(|cursor| ("cursor", cursor))) {
                query.push_str(&format!("&{name}={}", percent_encoded(value)));
            }
            let answer = self.get(&query).await?;
            let page: Page = serde_json::from_str(answer.get()).map_err(|error| self.unknown_answer(&error))?;
            let is_empty = page.items.is_empty();
            raw.extend(page.items);
            let next = page.next_cursor.filter(|next| !next.is_null());
            let next = next.map(|next| next.as_str().map_or_else(|| next.to_string(), str::to_owned));
            if next.is_none() || limit.is_some_and(|limit| raw.len() >= limit) {
                return Ok(Items { raw, more: next.is_some() });
            }
            if is_empty || next == cursor || raw.len() >= MAX_ITEMS {
                return Err(self.unknown_answer(&"a list that does not go on"));
            }
            cursor = next;
        }
    }
}

impl Items {
    /// Returns the items as one JSON document.
    pub(in crate::hub::cli) fn to_json(&self) -> String {
        let items: Vec<&str> = self.raw.iter().map(|item| item.get()).collect();
        format!("[{}]\n", items.join(",\n"))
    }

    /// Returns the items, read.
    pub(in crate::hub::cli) fn values(&self) -> impl Iterator<Item = Value> {
        self.raw.iter().map(|item| value(item))
    }
}
