//! The server's record of a validation: `GET /evs/rest/validations/{oid}`. It is the only place that names the
//! tested object.

use crate::model::gazelle::ValidationRecord;

use super::tree::Node;
use super::{date, kept_scalar, tested_object};

/// Most objects kept.
const MAX_OBJECTS: usize = 50;

/// Reads it; `None` where nothing in it says that it is one.
pub fn read(tree: &Node) -> Option<ValidationRecord> {
    let none = Node::default();
    let service = tree.kid("validationService").unwrap_or(&none);
    let sharing = tree.kid("sharing").unwrap_or(&none);
    let owner = tree.kid("owner").unwrap_or(&none);
    let record = ValidationRecord {
        oid: kept_scalar(tree, &["oid"]),
        status: kept_scalar(tree, &["status"]).map(|s| s.to_ascii_uppercase()),
        date: tree.scalar(&["date"]).and_then(date),
        service: kept_scalar(service, &["name"]),
        validator: kept_scalar(service, &["validator"]),
        private: sharing.scalar(&["private", "isPrivate"]).and_then(|p| p.parse().ok()),
        organization: kept_scalar(owner, &["organization"]),
        objects: tree.list(&["object", "objects"]).into_iter().take(MAX_OBJECTS).map(tested_object).collect(),
    };
    (record.oid.is_some() || record.status.is_some()).then_some(record)
}
