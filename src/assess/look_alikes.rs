//! The same picture under several requirements: difference hashes that differ in next to no bit.
//!
//! Goals:
//! 1. A screenshot that was saved again, in another format or size, is recognised where its digest is not
//!    ([`super::completeness::duplicates`] says what is byte for byte the same).
//! 2. Two screens of one software are not the same picture: shape, contrast and hash must all agree, and blank
//!    screens, which all look alike, are left out. What remains is for a person to compare.
//! 3. Bounded whatever is deposited: at most [`MAX_PICTURES`] pictures are compared, each pair once, and of a crowd of look-alikes
//!    nothing is kept but that they belong together.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::facts::{Detail, Facts, ImageFacts};
use crate::model::report::ItemReport;
use crate::model::submission::FiledUnder;
use crate::model::work::Work;
use crate::model::{Place, Signal};
use crate::pipeline::guards::LookAlikePolicy;

/// Most pictures that are compared: eight million pairs of one machine word, some 20 ms. A dossier of 239 proofs has fewer.
pub const MAX_PICTURES: usize = 4096;
/// Other places named in a finding; the rest is counted.
const NAMED: usize = 5;
/// A hash with fewer bits of one kind is that of a picture without structure.
const MIN_STRUCTURE: u32 = 6;

/// A picture of one item.
struct Picture<'a> {
    item: usize,
    exigence: &'a str,
    /// The way to it through archives.
    way: Vec<&'a str>,
    name: &'a str,
    sha256: &'a str,
    hash: u64,
    aspect: f32,
    deviation: f32,
}

/// What one item looks like.
struct Likeness {
    place: Place,
    distance: u32,
    /// Items that look like it and the name of what does, as many as are told one by one.
    others: BTreeMap<usize, usize>,
}

/// The signals of items that look like an item of another exigence, by position in `items`. `exigence` gives the
/// exigence of a place, `None` where pictures are not compared.
pub fn signals(
    items: &[ItemReport],
    exigence: &dyn Fn(&FiledUnder) -> Option<String>,
    policy: &LookAlikePolicy,
    work: &Work,
) -> Vec<(usize, Signal)> {
    let exigences: Vec<Option<String>> = work.each(items).map(|i| exigence(&i.filed_under)).collect();
    let mut pictures = Vec::new();
    for (item, (report, exigence)) in work.each(items.iter().zip(&exigences).enumerate()) {
        if let (Some(facts), Some(exigence)) = (&report.facts, exigence) {
            let sha256 = report.sha256.as_deref().unwrap_or_default();
            collect(item, exigence, &report.name, sha256, facts, &mut Vec::new(), policy, work, &mut pictures);
        }
    }
    let mut likenesses: BTreeMap<usize, Likeness> = BTreeMap::new();
    let mut groups = Groups::new(items.len());
    // Enough to tell a small group in full, and to know that a larger one is a crowd.
    let kept = policy.max_group.max(NAMED);
    for (n, one) in pictures.iter().enumerate() {
        let others = &pictures[n + 1..];
        // Sixty-four hashes are compared in a step.
        if !work.spend(1 + others.len() as u64 / 64) {
            break;
        }
        for (m, other) in others.iter().enumerate() {
            let distance = (one.hash ^ other.hash).count_ones();
            if distance > policy.max_distance || one.exigence == other.exigence || !is_alike(one, other, policy) {
                continue;
            }
            groups.join(one.item, other.item);
            for (this, that, picture) in [(one, other, n + 1 + m), (other, one, n)] {
                let likeness = likenesses.entry(this.item).or_insert_with(|| Likeness {
                    place: Place { members: this.way.iter().map(|name| (*name).to_owned()).collect(), ..Place::default() },
                    distance,
                    others: BTreeMap::new(),
                });
                likeness.distance = likeness.distance.min(distance);
                if likeness.others.len() < kept {
                    likeness.others.entry(that.item).or_insert(picture);
                }
            }
        }
    }
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for item in likenesses.keys() {
        *sizes.entry(groups.of(*item)).or_default() += 1;
    }
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for (item, likeness) in likenesses {
        let group = groups.of(item);
        let size = sizes.get(&group).copied().unwrap_or_default();
        let name = |(item, picture): (&usize, &usize)| format!("{} ({})", items[*item].place_name(), pictures[*picture].name);
        let shown: Vec<String> = likeness.others.iter().take(NAMED).map(name).collect();
        if size <= policy.max_group {
            let count = likeness.others.len();
            found.push((item, likeness.signal(Signal::new("look-alike-image"), shown, count)));
        } else if told.insert(group) {
            // Screens of one application share their frame: said once, of the first, and not of each.
            found.push((item, likeness.signal(Signal::new("look-alike-crowd"), shown, size - 1)));
        }
    }
    found
}

/// Items that hang together by likeness: disjoint sets, joined by size (Tarjan).
struct Groups {
    parents: Vec<usize>,
    sizes: Vec<usize>,
}

impl Groups {
    fn new(items: usize) -> Self {
        Self { parents: (0..items).collect(), sizes: vec![1; items] }
    }

    fn of(&mut self, item: usize) -> usize {
        let mut at = item;
        while self.parents[at] != at {
            self.parents[at] = self.parents[self.parents[at]];
            at = self.parents[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.of(one), self.of(other));
        if one != other {
            let (small, large) = if self.sizes[one] < self.sizes[other] { (one, other) } else { (other, one) };
            self.parents[small] = large;
            self.sizes[large] += self.sizes[small];
        }
    }
}

impl Likeness {
    fn signal(self, signal: Signal, mut shown: Vec<String>, count: usize) -> Signal {
        if count > shown.len() {
            shown.push("…".into());
        }
        signal.at(self.place).arg("others", shown.join(", ")).arg("count", count).arg("distance", self.distance)
    }
}

impl ItemReport {
    fn place_name(&self) -> &str {
        match &self.filed_under {
            FiledUnder::Slot(id) | FiledUnder::Preuve(id) => id,
        }
    }
}

/// Whether two pictures with near hashes also agree in everything else that is known of them.
fn is_alike(one: &Picture<'_>, other: &Picture<'_>, policy: &LookAlikePolicy) -> bool {
    // Two whole items with the same bytes are said elsewhere; the same picture inside two archives is not.
    let both_loose = one.way.is_empty() && other.way.is_empty();
    let same_bytes = !one.sha256.is_empty() && one.sha256 == other.sha256;
    !(both_loose && same_bytes)
        && (one.aspect - other.aspect).abs() <= policy.max_aspect_percent / 100.0 * one.aspect.max(other.aspect)
        && (one.deviation - other.deviation).abs() <= policy.max_deviation_difference
}

#[expect(clippy::too_many_arguments, reason = "one recursion, its arguments are what changes on the way down")]
fn collect<'a>(
    item: usize,
    exigence: &'a str,
    name: &'a str,
    sha256: &'a str,
    facts: &'a Facts,
    way: &mut Vec<&'a str>,
    policy: &LookAlikePolicy,
    work: &Work,
    pictures: &mut Vec<Picture<'a>>,
) {
    if let Some(Detail::Image(image)) = &facts.detail
        && pictures.len() < MAX_PICTURES
        && let Some((hash, aspect, deviation)) = comparable(image, policy)
    {
        pictures.push(Picture { item, exigence, way: way.clone(), name, sha256, hash, aspect, deviation });
    }
    for member in work.each(facts.members()) {
        if let Some(inner) = &member.facts {
            way.push(&member.name);
            let sha256 = member.sha256.as_deref().unwrap_or_default();
            collect(item, exigence, &member.name, sha256, inner, way, policy, work, pictures);
            way.pop();
        }
    }
}

/// Hash, width over height and contrast of a picture that has something to compare.
fn comparable(image: &ImageFacts, policy: &LookAlikePolicy) -> Option<(u64, f32, f32)> {
    let hash = u64::from_str_radix(image.perceptual_hash.as_deref()?, 16).ok()?;
    let deviation = image.luma_deviation?;
    let structured = (MIN_STRUCTURE..=64 - MIN_STRUCTURE).contains(&hash.count_ones());
    if !structured || deviation < policy.min_luma_deviation || image.width == 0 || image.height == 0 {
        return None;
    }
    // Far below 2^24 for any picture that was decoded: exact enough for a ratio.
    Some((hash, image.width as f32 / image.height as f32, deviation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::{ArchiveFacts, MemberFacts};

    fn picture(hash: u64, width: u32, deviation: f32) -> Facts {
        let image = ImageFacts {
            width,
            height: 1000,
            decoded: true,
            luma_deviation: Some(deviation),
            perceptual_hash: Some(format!("{hash:016x}")),
            ..ImageFacts::default()
        };
        Facts { detail: Some(Detail::Image(image)), ..Facts::default() }
    }

    fn item(preuve: &str, name: &str, sha256: &str, facts: Facts) -> ItemReport {
        ItemReport { facts: Some(facts.into()), ..crate::assess::fixtures::item(name, preuve, name, sha256) }
    }

    fn found(items: &[ItemReport]) -> Vec<(usize, Signal)> {
        let exigence = |filed: &FiledUnder| match filed {
            FiledUnder::Preuve(id) => id.rsplit_once('.').map(|(exigence, _)| exigence.to_owned()),
            FiledUnder::Slot(_) => None,
        };
        signals(items, &exigence, &LookAlikePolicy::default(), &Work::unbounded())
    }

    const HASH: u64 = 0x0f0f_3c3c_a5a5_0ff0;

    #[test]
    fn a_picture_saved_again_is_recognised_under_another_requirement() {
        let items = [
            item("INS.01.01", "a.png", "aa", picture(HASH, 1600, 40.0)),
            item("INS.02.01", "b.jpg", "bb", picture(HASH ^ 1, 800 * 2, 40.6)),
            item("INS.03.01", "c.png", "cc", picture(!HASH, 1600, 40.0)),
        ];
        let found = found(&items);
        assert_eq!(found.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(found[0].1.args["others"].to_string(), "INS.02.01 (b.jpg)");
        assert_eq!(found[1].1.args["others"].to_string(), "INS.01.01 (a.png)");
        assert_eq!(found[0].1.args["distance"].to_string(), "1");
    }

    #[test]
    fn the_same_requirement_blank_screens_other_shapes_and_equal_bytes_say_nothing() {
        let one = || item("INS.01.01", "a.png", "aa", picture(HASH, 1600, 40.0));
        for other in [
            item("INS.01.02", "b.png", "bb", picture(HASH, 1600, 40.0)),
            item("INS.02.01", "b.png", "bb", picture(HASH, 1200, 40.0)),
            item("INS.02.01", "b.png", "bb", picture(HASH, 1600, 60.0)),
            item("INS.02.01", "b.png", "bb", picture(HASH ^ 0b111, 1600, 40.0)),
            item("INS.02.01", "b.png", "aa", picture(HASH, 1600, 40.0)),
            ItemReport { filed_under: FiledUnder::Slot("documentation".into()), ..item("x", "b.png", "bb", picture(HASH, 1600, 40.0)) },
        ] {
            assert_eq!(found(&[one(), other]).len(), 0);
        }
        let flat = |n: &str| item(n, "a.png", n, picture(HASH, 1600, 2.0));
        assert_eq!(found(&[flat("INS.01.01"), flat("INS.02.01")]).len(), 0);
        let bare = |n: &str| item(n, "a.png", n, picture(1, 1600, 40.0));
        assert_eq!(found(&[bare("INS.01.01"), bare("INS.02.01")]).len(), 0);
    }

    #[test]
    fn members_of_archives_are_compared_even_with_equal_bytes() {
        let zip = |preuve: &str, name: &str| {
            let member = MemberFacts {
                name: "ecran.png".into(),
                sha256: Some("same".into()),
                facts: Some(Box::new(picture(HASH, 1600, 40.0))),
                ..MemberFacts::default()
            };
            let facts = Facts {
                detail: Some(Detail::Archive(ArchiveFacts { members: vec![member], ..ArchiveFacts::default() })),
                ..Facts::default()
            };
            item(preuve, name, name, facts)
        };
        let found = found(&[zip("INS.01.01", "a.zip"), zip("INS.02.01", "b.zip")]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1.place, Place::member("ecran.png"));
        assert_eq!(found[0].1.args["others"].to_string(), "INS.02.01 (ecran.png)");
    }

    #[test]
    fn a_crowd_of_screens_is_told_once() {
        let screens = |n: usize| -> Vec<_> {
            (0..n).map(|n| item(&format!("INS.{n:02}.01"), "a.png", &n.to_string(), picture(HASH, 1600, 40.0))).collect()
        };
        let group = LookAlikePolicy::default().max_group;
        assert_eq!(found(&screens(group)).len(), group);
        let told = found(&screens(group + 1));
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].0, told[0].1.code.as_str()), (0, "look-alike-crowd"));
        assert_eq!(told[0].1.args["count"].to_string(), group.to_string());
    }

    #[test]
    fn a_thousand_equal_pictures_are_one_finding() {
        let screens: Vec<_> =
            (0..1000).map(|n| item(&format!("INS.{n:02}.01"), "a.png", &n.to_string(), picture(HASH, 1600, 40.0))).collect();
        let told = found(&screens);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1.args["count"].to_string(), "999");
        assert!(told[0].1.args["others"].to_string().ends_with(", …"));
    }

    #[test]
    fn a_malformed_hash_is_left_out() {
        let mut facts = picture(HASH, 1600, 40.0);
        if let Some(Detail::Image(image)) = &mut facts.detail {
            image.perceptual_hash = Some("not hex".into());
        }
        assert_eq!(found(&[item("INS.01.01", "a", "a", facts.clone()), item("INS.02.01", "b", "b", facts)]).len(), 0);
    }

    proptest::proptest! {
        #[test]
        fn likeness_is_mutual(hashes in proptest::collection::vec(0u64..8, 0..12)) {
            let items: Vec<_> = hashes
                .iter()
                .enumerate()
                .map(|(n, h)| item(&format!("INS.{}.01", n % 3), "a.png", &n.to_string(), picture(HASH ^ h, 1600, 40.0)))
                .collect();
            for (n, _) in found(&items) {
                let alike = |o: &usize| n % 3 != o % 3 && (hashes[n] ^ hashes[*o]).count_ones() <= 2;
                proptest::prop_assert!((0..hashes.len()).any(|o| alike(&o)), "{n}");
            }
        }
    }
}
