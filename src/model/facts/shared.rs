//! Facts that several items share: one copy in memory, one copy in a report.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, SerializeSeq as _, Serializer};

use super::Facts;
use crate::model::report::ItemReport;

/// Writes and reads `Option<Arc<Facts>>` as `Option<Facts>`.
pub(crate) mod one {
    use super::{Arc, Deserialize as _, Deserializer, Facts, Serialize as _, Serializer};

    pub(crate) fn serialize<S: Serializer>(facts: &Option<Arc<Facts>>, to: S) -> Result<S::Ok, S::Error> {
        facts.as_deref().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Facts>>, D::Error> {
        Ok(Option::<Facts>::deserialize(from)?.map(Arc::new))
    }
}

/// Writes the items of a report: facts that an earlier item shares are written there, and a reference here.
pub(crate) fn serialize<S: Serializer>(items: &[ItemReport], to: S) -> Result<S::Ok, S::Error> {
    let mut first: HashMap<*const Facts, &str> = HashMap::new();
    let mut list = to.serialize_seq(Some(items.len()))?;
    for item in items {
        let earlier = item.facts.as_ref().and_then(|facts| match first.entry(Arc::as_ptr(facts)) {
            std::collections::hash_map::Entry::Occupied(of) => Some((*of.get()).to_owned()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(&item.id);
                None
            }
        });
        match earlier {
            Some(of) => list.serialize_element(&ItemReport { facts: None, facts_of: Some(of), ..item.clone() })?,
            None => list.serialize_element(item)?,
        }
    }
    list.end()
}

/// Reads the items of a report, and gives each that refers to the facts of an earlier one a share of them.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ItemReport>, D::Error> {
    let mut items = Vec::<ItemReport>::deserialize(from)?;
    let mut known: HashMap<String, Arc<Facts>> = HashMap::new();
    for item in &mut items {
        match (item.facts_of.take(), &item.facts) {
            (None, Some(facts)) => {
                known.insert(item.id.clone(), Arc::clone(facts));
            }
            (None, None) => {}
            (Some(of), None) => match known.get(&of) {
                Some(facts) => item.facts = Some(Arc::clone(facts)),
                None => return Err(D::Error::custom("`facts_of` names no earlier item with facts")),
            },
            (Some(_), Some(_)) => return Err(D::Error::custom("an item has both `facts` and `facts_of`")),
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::fixtures;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Items {
        #[serde(with = "super")]
        items: Vec<ItemReport>,
    }

    fn with(id: &str, facts: &Arc<Facts>) -> ItemReport {
        ItemReport { facts: Some(Arc::clone(facts)), ..fixtures::item(id, "INS.01.01.01", id, "digest") }
    }

    #[test]
    fn shared_facts_stand_once_and_are_shared_again_when_they_are_read() {
        let (one, other) = (Arc::new(Facts::of_size(7)), Arc::new(Facts::of_size(7)));
        let items = Items { items: vec![with("a", &one), with("b", &other), with("c", &one)] };
        let json = serde_json::to_value(&items).unwrap();
        let told = |n: usize| (json["items"][n]["facts"].is_object(), json["items"][n]["facts_of"].as_str());
        assert_eq!([told(0), told(1), told(2)], [(true, None), (true, None), (false, Some("a"))]);
        let again: Items = serde_json::from_value(json).unwrap();
        assert_eq!(again, items);
        assert!(Arc::ptr_eq(again.items[0].facts.as_ref().unwrap(), again.items[2].facts.as_ref().unwrap()));
    }

    #[test]
    fn a_reference_to_nothing_is_refused() {
        let mut json = serde_json::to_value(Items { items: vec![with("a", &Arc::new(Facts::of_size(7)))] }).unwrap();
        json["items"][0]["facts_of"] = "a".into();
        assert!(serde_json::from_value::<Items>(json.clone()).is_err(), "both");
        json["items"][0].as_object_mut().unwrap().remove("facts");
        assert!(serde_json::from_value::<Items>(json).is_err(), "itself");
    }
}
