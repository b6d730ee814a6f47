//! The page tree and the bookmarks (ISO 32000-2 §7.7.3, §12.3.3), cycle-safe.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::file::File;
use super::object::{Dict, Object, text_string};
use crate::inspect::budget::{Budget, Exceeded};
use crate::model::facts::OutlineEntry;

/// Pages that are read; all are counted.
pub const MAX_PAGES: usize = 2_000;
/// Nodes of the page tree that are followed.
const MAX_NODES: usize = 1_000_000;
/// Units of work of a node of the page tree.
const NODE: u64 = 10_000;
/// Bookmarks kept.
const MAX_OUTLINE: usize = 2_000;
/// Bookmark levels followed.
const MAX_LEVEL: u8 = 32;
/// Named destinations kept for resolving bookmarks.
const MAX_DESTINATIONS: usize = 20_000;

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Object number, where it is an indirect object as it shall be.
    pub num: Option<u32>,
    /// Its dictionary.
    pub dict: Rc<Object>,
    /// Its resources, inherited where it has none.
    pub resources: Rc<Object>,
}

/// All pages.
#[derive(Debug, Default)]
pub struct Pages {
    /// The first [`MAX_PAGES`].
    pub listed: Vec<Page>,
    /// All of them.
    pub count: u32,
    /// Kids of the tree that are no page: absent, or unreadable.
    pub missing: u32,
    /// Object number → page from 1.
    numbers: BTreeMap<u32, u32>,
}

impl Pages {
    /// Walks the page tree below the catalogue `root`.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn read(file: &mut File, root: &Dict, budget: &mut Budget) -> Result<Self, Exceeded> {
        let mut pages = Self::default();
        let mut seen = BTreeSet::new();
        let mut stack = vec![(root.get("Pages").clone(), Rc::new(Object::Null))];
        let mut pushed = 0usize;
        let mut at_root = true;
        while let Some((reference, inherited)) = stack.pop() {
            budget.work(NODE)?;
            let node = file.resolve(&reference, budget)?;
            let num = reference.reference();
            let Some(dict) = node.dict() else {
                file.harm.lost(num.map_or_else(|| "/Pages".to_owned(), |n| format!("{n} 0 obj: /Page")));
                pages.missing += 1;
                continue;
            };
            let resources = if dict.has("Resources") { file.entry(dict, "Resources", budget)? } else { inherited };
            let kids = file.entry(dict, "Kids", budget)?;
            let kind = file.entry(dict, "Type", budget)?;
            if kind.is_name("Pages") || (*kids != Object::Null && !kind.is_name("Page")) || at_root {
                if num.is_some_and(|n| !seen.insert(n)) {
                    file.harm.repaired(format!("{} 0 obj: /Kids", num.unwrap_or(0)));
                    continue;
                }
                if !kind.is_name("Pages") {
                    file.harm.repaired("/Type /Pages");
                }
                pushed = pushed.saturating_add(kids.items().len());
                if pushed > MAX_NODES {
                    file.harm.lost("/Kids");
                    break;
                }
                stack.extend(kids.items().iter().rev().map(|kid| (kid.clone(), Rc::clone(&resources))));
                at_root = false;
                continue;
            }
            if !kind.is_name("Page") {
                file.harm.repaired(num.map_or_else(|| "/Type /Page".to_owned(), |n| format!("{n} 0 obj: /Type /Page")));
            }
            pages.count += 1;
            if let Some(num) = num {
                pages.numbers.entry(num).or_insert(pages.count);
            }
            if pages.listed.len() < MAX_PAGES {
                pages.listed.push(Page { num, dict: Rc::clone(&node), resources });
            }
        }
        Ok(pages)
    }
}

/// Reads the bookmarks, depth first.
///
/// # Errors
/// [`Exceeded`] when the budget ends.
pub fn outline(file: &mut File, root: &Dict, pages: &Pages, budget: &mut Budget) -> Result<Vec<OutlineEntry>, Exceeded> {
    let mut entries = Vec::new();
    let outlines = file.entry(root, "Outlines", budget)?;
    let first = outlines.dict_or_empty().get("First").clone();
    if first.reference().is_none() {
        return Ok(entries);
    }
    let destinations = named_destinations(file, root, budget)?;
    let mut seen = BTreeSet::new();
    let mut stack = vec![(first, 0u8)];
    while let Some((reference, level)) = stack.pop() {
        if reference.reference().is_none_or(|n| !seen.insert(n)) || entries.len() >= MAX_OUTLINE {
            continue;
        }
        let item = file.resolve(&reference, budget)?;
        let Some(dict) = item.dict() else { continue };
        let title = file.entry(dict, "Title", budget)?;
        let title = crate::inspect::fold_whitespace(&text_string(title.string().unwrap_or_default()));
        let page = target(file, dict, &destinations, pages, budget)?;
        let title: String = title.chars().take(300).collect();
        entries.push(OutlineEntry { level, title, page });
        stack.push((dict.get("Next").clone(), level));
        if level < MAX_LEVEL {
            stack.push((dict.get("First").clone(), level + 1));
        }
    }
    Ok(entries)
}

/// The page that a bookmark leads to: `/Dest`, or a go-to action.
fn target(
    file: &mut File,
    item: &Dict,
    destinations: &BTreeMap<Vec<u8>, Object>,
    pages: &Pages,
    budget: &mut Budget,
) -> Result<Option<u32>, Exceeded> {
    let mut destination = file.entry(item, "Dest", budget)?;
    if *destination == Object::Null {
        let action = file.entry(item, "A", budget)?;
        let Some(action) = action.dict().filter(|a| a.is("S", "GoTo")) else { return Ok(None) };
        destination = file.entry(action, "D", budget)?;
    }
    // A name leads to an array, or to a dictionary that holds one.
    for _ in 0..3 {
        let next = match &*destination {
            Object::Str(name) | Object::Name(name) => destinations.get(name).cloned().unwrap_or(Object::Null),
            Object::Dict(dict) => dict.get("D").clone(),
            _ => break,
        };
        destination = file.resolve(&next, budget)?;
    }
    Ok(match destination.items().first() {
        Some(Object::Ref(num)) => pages.numbers.get(num).copied(),
        // Some producers write the page's index.
        Some(Object::Int(index)) => u32::try_from(*index).ok().map(|i| i.saturating_add(1)).filter(|n| *n <= pages.count),
        _ => None,
    })
}

fn named_destinations(file: &mut File, root: &Dict, budget: &mut Budget) -> Result<BTreeMap<Vec<u8>, Object>, Exceeded> {
    let mut all = BTreeMap::new();
    let old = file.entry(root, "Dests", budget)?;
    for (name, value) in old.dict_or_empty().0.iter().take(MAX_DESTINATIONS) {
        all.insert(name.clone(), value.clone());
    }
    let names = file.entry(root, "Names", budget)?;
    let tree = names.dict_or_empty().get("Dests").clone();
    for (name, value) in name_tree(file, tree, MAX_DESTINATIONS, budget)? {
        all.insert(name, value);
    }
    Ok(all)
}

/// The entries of a name tree (§7.9.6), capped.
///
/// # Errors
/// [`Exceeded`] when the budget ends.
pub fn name_tree(file: &mut File, tree: Object, max: usize, budget: &mut Budget) -> Result<Vec<(Vec<u8>, Object)>, Exceeded> {
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    let mut stack = vec![tree];
    while let Some(node) = stack.pop() {
        if node.reference().is_some_and(|n| !seen.insert(n)) || stack.len() > MAX_NODES || entries.len() >= max {
            continue;
        }
        let node = file.resolve(&node, budget)?;
        let Some(dict) = node.dict() else { continue };
        let names = file.entry(dict, "Names", budget)?;
        for pair in names.items().chunks_exact(2).take(max) {
            let key = file.resolve(&pair[0], budget)?;
            entries.push((key.string().unwrap_or_default().to_vec(), pair[1].clone()));
        }
        let kids = file.entry(dict, "Kids", budget)?;
        stack.extend(kids.items().iter().take(max).rev().filter(|k| k.reference().is_some()).cloned());
    }
    Ok(entries)
}
