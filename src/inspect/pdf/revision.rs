//! What was added to a signed PDF after its last signature (ISO 32000-2 §12.8.1, §12.8.4).
//!
//! A signature covers the bytes up to its end. Long-term validation appends certificates, revocation data and document time
//! stamps by design (§12.8.4.3, §12.8.5; ETSI EN 319 142-1 §5.4), in the same way in which a page is replaced. The objects
//! of the two revisions are compared: what validation needs may be added, anything else that differs is a change.

use std::collections::BTreeSet;

use super::file::{File, OpenError};
use super::object::{Dict, Object};
use crate::inspect::budget::{Budget, Exceeded};

/// Entries of the catalogue that validation data may change.
const CATALOGUE: [&str; 6] = ["DSS", "AcroForm", "Extensions", "Version", "Metadata", "Perms"];
/// Entries of the form that a time stamp's field changes.
const FORM: [&str; 4] = ["Fields", "SigFlags", "DR", "DA"];

/// Whether everything that follows byte `end` of `bytes` is validation data.
///
/// # Errors
/// [`Exceeded`] when the budget ends.
pub fn adds_validation_data_only(file: &mut File, bytes: &[u8], end: u64, budget: &mut Budget) -> Result<bool, Exceeded> {
    let Some(signed) = usize::try_from(end).ok().and_then(|end| bytes.get(..end)) else { return Ok(false) };
    let mut before = match File::open(signed, budget) {
        Ok(before) => before,
        Err(OpenError::Exceeded(exceeded)) => return Err(exceeded),
        Err(_) => return Ok(false),
    };
    let (root, form) = (file.trailer.get("Root").reference(), file.trailer.get("Root").clone());
    let form = file.resolve(&form, budget)?.dict_or_empty().get("AcroForm").reference();
    let mut allowed = validation_objects(file, budget)?;
    allowed.extend(file.trailer.get("Info").reference());
    for num in file.changed_from(signed.len()) {
        budget.tick()?;
        let (new, old) = (file.get(num, budget)?, before.get(num, budget)?);
        let unchanged = match (new.stream(), old.stream()) {
            (Some(a), Some(b)) => same_but(&a.dict, &b.dict, &["Length"]) && file.raw(a) == before.raw(b),
            _ => new == old,
        };
        if unchanged || allowed.contains(&num) {
            continue;
        }
        let (dict, earlier) = (new.dict_or_empty(), old.dict_or_empty());
        let kind = file.entry(dict, "Type", budget)?;
        let fine = match kind.name().unwrap_or_default() {
            b"XRef" | b"ObjStm" | b"DocTimeStamp" => true,
            b"Metadata" => new.stream().is_some(),
            _ if Some(num) == root => same_but(dict, earlier, &CATALOGUE),
            _ if Some(num) == form => same_but(dict, earlier, &FORM) || *old == Object::Null,
            b"Page" => same_but(dict, earlier, &["Annots"]) && only_grows(dict.get("Annots"), earlier.get("Annots")),
            _ => only_grows(&new, &old) || is_invisible_signature_field(file, dict, budget)?,
        };
        if !fine {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Numbers of all objects below the document security store.
fn validation_objects(file: &mut File, budget: &mut Budget) -> Result<BTreeSet<u32>, Exceeded> {
    let root = file.trailer.get("Root").clone();
    let root = file.resolve(&root, budget)?;
    let mut found = BTreeSet::new();
    let mut queue = vec![root.dict_or_empty().get("DSS").clone()];
    while let Some(object) = queue.pop() {
        budget.tick()?;
        match &object {
            Object::Ref(num) if found.insert(*num) => {
                let object = file.get(*num, budget)?;
                // A page or the catalogue below it would make everything « validation data ».
                let kind = object.dict_or_empty().get("Type").name().unwrap_or_default().to_vec();
                if matches!(kind.as_slice(), b"Page" | b"Pages" | b"Catalog" | b"Font" | b"XObject" | b"Annot") {
                    found.remove(num);
                } else {
                    queue.push((*object).clone());
                }
            }
            Object::Array(items) => queue.extend(items.iter().cloned()),
            Object::Dict(dict) => queue.extend(dict.0.iter().map(|(_, value)| value.clone())),
            _ => {}
        }
    }
    Ok(found)
}

/// Whether two dictionaries agree in every entry but `except`.
fn same_but(new: &Dict, old: &Dict, except: &[&str]) -> bool {
    let counted = |key: &[u8]| !except.iter().any(|e| e.as_bytes() == key);
    let keys: BTreeSet<&[u8]> = new.0.iter().chain(&old.0).map(|(key, _)| key.as_slice()).filter(|key| counted(key)).collect();
    keys.into_iter().all(|key| new.get(key) == old.get(key))
}

/// Whether a list keeps what it had and gains references, whose objects are looked at by themselves.
fn only_grows(new: &Object, old: &Object) -> bool {
    if new == old {
        return true;
    }
    let (Object::Array(items), Object::Array(_) | Object::Null) = (new, old) else { return false };
    let kept = old.items();
    items.get(..kept.len()) == Some(kept) && items.iter().skip(kept.len()).all(|item| item.reference().is_some())
}

/// Whether `dict` is the field of a time stamp that shows nothing on its page (§12.7.5.5).
fn is_invisible_signature_field(file: &mut File, dict: &Dict, budget: &mut Budget) -> Result<bool, Exceeded> {
    if !file.entry(dict, "FT", budget)?.is_name("Sig") {
        return Ok(false);
    }
    let rectangle = file.entry(dict, "Rect", budget)?;
    let sides: Vec<f64> = rectangle.items().iter().filter_map(Object::number).collect();
    Ok(match sides.as_slice() {
        [left, bottom, right, top] => left == right || bottom == top,
        _ => sides.is_empty(),
    })
}
