//! Videos of a few hundred bytes built box by box, then broken in one way each.

use proptest::prelude::*;

use super::*;
use crate::inspect::Limits;
use crate::model::{Severity, messages};

fn be32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn bx(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes(), &kind[..], body].concat()
}

/// What a test changes of an otherwise plain movie.
#[derive(Clone)]
struct Recipe {
    handler: &'static [u8; 4],
    entry: [u8; 4],
    /// Child boxes of the sample entry.
    entry_boxes: Vec<u8>,
    data_flags: u32,
    frames: u32,
    timescale: u32,
    /// What stands in `moov` beside header and track.
    beside: Vec<u8>,
    fast_start: bool,
    /// A kind of box that is written twice.
    twice: Option<&'static [u8; 4]>,
    /// The first chunk that `stsc` speaks of.
    first_chunk: u32,
    /// Frames that `stts` and `stsc` leave out.
    untimed: u32,
    unplaced: u32,
}

impl Default for Recipe {
    fn default() -> Self {
        let configuration = bx(b"avcC", &[1, 0x64, 0, 0x1F, 0xFF, 0xE1]);
        Self {
            handler: b"vide",
            entry: *b"avc1",
            entry_boxes: configuration,
            data_flags: 1,
            frames: 200,
            timescale: 100,
            beside: Vec::new(),
            fast_start: false,
            twice: None,
            first_chunk: 1,
            untimed: 0,
            unplaced: 0,
        }
    }
}

/// A frame: two units of 100 and 150 bytes.
fn frame() -> Vec<u8> {
    [be32s(&[100]), vec![0x67; 100], be32s(&[150]), vec![0x65; 150]].concat()
}

const FRAME_BYTES: u32 = 258;

impl Recipe {
    fn bx(&self, kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        bx(kind, body).repeat(if self.twice == Some(kind) { 2 } else { 1 })
    }

    fn track(&self, media_at: u32, sizes: &[u8]) -> Vec<u8> {
        let mut track_header = be32s(&[1, 0, 0, 1, 0, self.frames * 10]);
        track_header.extend([0; 52]);
        track_header.extend(be32s(&[1280 << 16, 720 << 16]));
        let media_header = be32s(&[0, 0, 0, self.timescale, self.frames * 10, 0]);
        let handler = [&be32s(&[0, 0])[..], self.handler, &[0; 13]].concat();
        let mut entry = vec![0, 0, 0, 0, 0, 0, 0, 1];
        entry.extend([0; 16]);
        entry.extend([5, 0, 2, 0xD0]); // 1280 × 720
        entry.extend([0; 50]);
        entry.extend(&self.entry_boxes);
        let description = [be32s(&[0, 1]), bx(&self.entry, &entry)].concat();
        let location: &[u8] = if self.data_flags & 1 == 1 { b"" } else { b"http://example.org/a\0" };
        let reference = bx(b"url ", &[&be32s(&[self.data_flags]), location].concat());
        let table = [
            self.bx(b"stsd", &description),
            self.bx(b"stts", &be32s(&[0, 1, self.frames - self.untimed, 10])),
            self.bx(b"stsc", &be32s(&[0, 1, self.first_chunk, self.frames - self.unplaced, 1])),
            self.bx(b"stsz", sizes),
            self.bx(b"stco", &be32s(&[0, 1, media_at])),
        ];
        let information = [bx(b"dinf", &bx(b"dref", &[be32s(&[0, 1]), reference].concat())), self.bx(b"stbl", &table.concat())];
        let media = [self.bx(b"mdhd", &media_header), self.bx(b"hdlr", &handler), self.bx(b"minf", &information.concat())];
        bx(b"trak", &[self.bx(b"tkhd", &track_header), self.bx(b"mdia", &media.concat())].concat())
    }

    fn movie(&self, media_at: u32) -> Vec<u8> {
        let sizes = [be32s(&[0, 0, self.frames]), be32s(&vec![FRAME_BYTES; self.frames as usize])].concat();
        let header = [be32s(&[0, 0, 0, self.timescale, self.frames * 10]), vec![0; 80]].concat();
        bx(b"moov", &[self.bx(b"mvhd", &header), self.track(media_at, &sizes), self.beside.clone()].concat())
    }

    fn build(&self) -> Vec<u8> {
        let ftyp = bx(b"ftyp", b"isom\0\0\x02\0isommp41");
        let media = bx(b"mdat", &frame().repeat(self.frames as usize));
        let before = if self.fast_start { ftyp.len() + self.movie(0).len() } else { ftyp.len() };
        let movie = self.movie(before as u32 + 8);
        if self.fast_start { [ftyp, movie, media].concat() } else { [ftyp, media, movie].concat() }
    }
}

fn mp4() -> Vec<u8> {
    Recipe::default().build()
}

/// A movie without samples, then `fragments` fragments of 50 frames each.
fn fragmented(fragments: u32) -> Vec<u8> {
    let defaults = bx(b"trex", &be32s(&[0, 1, 1, 10, FRAME_BYTES, 0]));
    let mut out = bx(b"ftyp", b"iso5\0\0\x02\0");
    out.extend(Recipe { frames: 0, beside: bx(b"mvex", &defaults), ..Recipe::default() }.movie(0));
    for _ in 0..fragments {
        let header = bx(b"tfhd", &be32s(&[0x02_0000, 1]));
        let run = |offset: u32| bx(b"trun", &[be32s(&[0x201, 50, offset]), be32s(&[FRAME_BYTES; 50])].concat());
        let fragment = |offset: u32| bx(b"moof", &bx(b"traf", &[header.clone(), run(offset)].concat()));
        let length = fragment(0).len() as u32;
        out.extend(fragment(length + 8));
        out.extend(bx(b"mdat", &frame().repeat(50)));
    }
    out
}

fn le32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn riff(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let padding = vec![0; body.len() % 2];
    [&id[..], &(body.len() as u32).to_le_bytes(), body, &padding].concat()
}

fn list(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    riff(b"LIST", &[&kind[..], body].concat())
}

fn avi() -> Vec<u8> {
    let frames = 50u32;
    let main = le32s(&[40_000, 0, 0, 0x10, frames, 0, 1, 0, 1280, 720, 0, 0, 0, 0]);
    let stream = [b"vidsMJPG".to_vec(), le32s(&[0, 0, 0, 1, 25, 0, frames, 0, 0, 0, 0, 0])].concat();
    let format = [le32s(&[40, 1280, 720, 0x0018_0001]), b"MJPG".to_vec(), le32s(&[0; 5])].concat();
    let streams = list(b"strl", &[riff(b"strh", &stream), riff(b"strf", &format)].concat());
    let headers = list(b"hdrl", &[riff(b"avih", &main), streams].concat());
    let media = list(b"movi", &riff(b"00dc", &[7; 101]).repeat(frames as usize));
    let index: Vec<u8> = (0..frames).flat_map(|n| [b"00dc".to_vec(), le32s(&[0x10, 4 + n * 110, 101])].concat()).collect();
    riff(b"RIFF", &[b"AVI ".to_vec(), headers, media, riff(b"idx1", &index)].concat())
}

fn flv_tag(kind: u8, millisecond: u32, data: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(&(data.len() as u32).to_be_bytes()[1..]);
    out.extend(&millisecond.to_be_bytes()[1..]);
    out.push((millisecond >> 24) as u8);
    out.extend([0; 3]);
    out.extend(data);
    out.extend((data.len() as u32 + 11).to_be_bytes());
    out
}

fn flv(duration: f64) -> Vec<u8> {
    let property = |name: &str, n: f64| [&(name.len() as u16).to_be_bytes()[..], name.as_bytes(), &[0], &n.to_be_bytes()].concat();
    let mut script = b"\x02\x00\x0aonMetaData\x08\0\0\0\x03".to_vec();
    script.extend([property("duration", duration), property("width", 1280.0), property("height", 720.0)].concat());
    script.extend([0, 0, 9]);
    let mut out = b"FLV\x01\x01\0\0\0\x09\0\0\0\0".to_vec();
    out.extend(flv_tag(18, 0, &script));
    for n in 0..100 {
        out.extend(flv_tag(9, n * 100, &[0x17, 1, 0, 0, 0, 1, 2, 3].repeat(40)));
    }
    out
}

fn described_as(bytes: &[u8], format: Option<Format>) -> Facts {
    let mut facts = Facts { format, ..Facts::of_size(bytes.len() as u64) };
    inspect(bytes, &mut Context::new(Limits::default()), &mut facts);
    for signal in &facts.signals {
        let message = messages::get(&signal.code).unwrap_or_else(|| panic!("{} has no message", signal.code));
        for name in message.reason.fr.split('{').skip(1).filter_map(|p| p.split('}').next()) {
            assert!(signal.args.contains_key(name), "{} lacks the value {name}", signal.code);
        }
    }
    facts
}

fn described(bytes: &[u8]) -> Facts {
    described_as(bytes, None)
}

fn codes(bytes: &[u8]) -> Vec<String> {
    described(bytes).signals.iter().map(|s| s.code.to_string()).collect()
}

fn errors(bytes: &[u8]) -> Vec<String> {
    let is_error = |s: &&Signal| messages::get(&s.code).is_some_and(|m| m.severity == Severity::Error);
    described(bytes).signals.iter().filter(is_error).map(|s| s.code.to_string()).collect()
}

fn detail(facts: &Facts) -> VideoFacts {
    match &facts.detail {
        Some(Detail::Video(video)) => video.clone(),
        other => panic!("no video facts: {other:?}"),
    }
}

#[test]
fn a_whole_mp4_is_described_without_a_signal() {
    let facts = described(&mp4());
    assert_eq!(facts.signals, []);
    let video = detail(&facts);
    assert_eq!((video.container.as_str(), video.duration, video.fast_start), ("isom", Some(20.0), Some(false)));
    let [track] = video.tracks.as_slice() else { panic!() };
    assert_eq!((track.kind, track.codec.as_str(), track.samples), (TrackKind::Video, "avc1", Some(200)));
    assert_eq!((track.width, track.height, track.duration), (Some(1280), Some(720), Some(20.0)));
    let fast = described(&Recipe { fast_start: true, ..Recipe::default() }.build());
    assert_eq!((detail(&fast).fast_start, fast.signals.len()), (Some(true), 0));
}

#[test]
fn an_interrupted_recording_lacks_its_index() {
    let whole = mp4();
    assert_eq!(codes(&whole[..whole.len() / 2]), ["video-index-missing"]);
    assert_eq!(codes(&bx(b"ftyp", b"isom\0\0\0\0")), ["video-index-missing"]);
}

#[test]
fn a_cut_upload_is_truncated_at_a_second() {
    let whole = Recipe { fast_start: true, ..Recipe::default() }.build();
    let facts = described(&whole[..whole.len() - 100 * FRAME_BYTES as usize]);
    let [signal] = facts.signals.as_slice() else { panic!("{:?}", facts.signals) };
    assert_eq!((signal.code.as_str(), signal.place.second), ("video-truncated", Some(10.0)));
    assert_eq!(signal.args["missing_bytes"], crate::model::finding::Arg::Int(25_800));
    assert_eq!(detail(&facts).duration, Some(20.0), "what the index says is described all the same");
    let cut_in_index = &mp4()[..mp4().len() - 3];
    assert_eq!(codes(cut_in_index), ["video-truncated"]);
}

#[test]
fn a_box_that_claims_too_much_while_every_sample_is_there_is_a_slip() {
    let mut whole = Recipe { fast_start: true, ..Recipe::default() }.build();
    let media = memchr::memmem::find(&whole, b"mdat").unwrap();
    let size = u32::from_be_bytes(whole[media - 4..media].try_into().unwrap());
    whole[media - 4..media].copy_from_slice(&(size + 8).to_be_bytes());
    assert_eq!(codes(&whole), ["video-box-overrun"]);
}

#[test]
fn sixty_four_bit_sizes_and_a_last_box_to_the_end_are_read() {
    let media = frame().repeat(200);
    let ftyp = bx(b"ftyp", b"isom\0\0\x02\0");
    let movie_length = Recipe::default().movie(0).len();
    let wide = [&be32s(&[1])[..], b"mdat", &(media.len() as u64 + 16).to_be_bytes(), &media].concat();
    let open = [&be32s(&[0])[..], b"mdat", &media].concat();
    for (media_box, header) in [(wide, 16), (open, 8)] {
        let movie = Recipe::default().movie((ftyp.len() + movie_length + header) as u32);
        assert_eq!(codes(&[&ftyp[..], &movie, &media_box].concat()), [""; 0]);
    }
}

#[test]
fn holes_in_the_media_data_are_seen() {
    let mut hole = mp4();
    hole[2000..5000].fill(0);
    let facts = described(&hole);
    assert_eq!(facts.signals[0].code.as_str(), "video-damaged-frames");
    let mut nick = mp4();
    nick[32 + FRAME_BYTES as usize * 7..][..4].fill(0xFF);
    assert_eq!(codes(&nick), ["video-odd-frames"], "one in two hundred");
}

#[test]
fn an_index_that_points_at_no_media_is_corrupt() {
    let recipe = Recipe::default();
    let media = bx(b"mdat", &frame().repeat(200));
    let file = [bx(b"ftyp", b"isom\0\0\x02\0"), recipe.movie(20), media].concat();
    assert_eq!(errors(&file)[0], "video-corrupt");
}

#[test]
fn a_table_that_does_not_fit_its_box_is_corrupt() {
    let mut whole = mp4();
    let at = memchr::memmem::find(&whole, b"stsz").unwrap();
    whole[at + 12..at + 16].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(codes(&whole), ["video-corrupt"]);
    let mut no_entry = mp4();
    let at = memchr::memmem::find(&no_entry, b"stsd").unwrap();
    no_entry[at..at + 4].copy_from_slice(b"free");
    assert_eq!(codes(&no_entry), ["video-corrupt"]);
}

#[test]
fn protected_tracks_are_encrypted_and_nothing_else_is_said() {
    let scheme = bx(b"schm", &[&be32s(&[0])[..], b"cbcs", &be32s(&[0x1_0000])].concat());
    let protection = bx(b"sinf", &[bx(b"frma", b"hvc1"), scheme].concat());
    let recipe = Recipe { entry: *b"encv", entry_boxes: protection, ..Recipe::default() };
    let facts = described(&recipe.build());
    let [signal] = facts.signals.as_slice() else { panic!("{:?}", facts.signals) };
    assert_eq!(signal.code.as_str(), "video-encrypted");
    assert_eq!(signal.args["scheme"], crate::model::finding::Arg::Str("cbcs".to_owned()));
    assert_eq!(detail(&facts).tracks[0].codec, "hvc1");
}

#[test]
fn rights_labels_over_clear_tracks_are_not_encryption() {
    let label = bx(b"pssh", &[0; 28]);
    assert_eq!(codes(&Recipe { beside: label, ..Recipe::default() }.build()), [""; 0]);
}

#[test]
fn sound_alone_has_no_pictures_but_an_m4a_needs_none() {
    let sound = Recipe { handler: b"soun", entry: *b"mp4a", entry_boxes: Vec::new(), ..Recipe::default() }.build();
    assert_eq!(codes(&sound), ["video-no-video-track"]);
    assert_eq!(described_as(&sound, Some(Format::M4a)).signals, []);
}

#[test]
fn short_still_and_uncommon_videos_are_told() {
    assert_eq!(codes(&Recipe { frames: 5, ..Recipe::default() }.build()), ["video-too-short"]);
    let uncommon = Recipe { entry: *b"apch", entry_boxes: Vec::new(), ..Recipe::default() };
    assert_eq!(codes(&uncommon.build()), ["video-codec-unusual"]);
    assert_eq!(codes(&Recipe { timescale: 0, ..Recipe::default() }.build()), [""; 0], "an unknown duration is not none");
    let still = Recipe { frames: 200, timescale: 10, ..Recipe::default() };
    assert_eq!(codes(&still.build()), ["video-low-bit-rate"]);
}

#[test]
fn references_out_of_the_file_are_told() {
    assert_eq!(codes(&Recipe { data_flags: 0, ..Recipe::default() }.build()), ["video-external-data"]);
    let reference = bx(b"rmra", &bx(b"rmda", &[]));
    let movie = [bx(b"ftyp", b"qt  \0\0\0\0"), bx(b"moov", &reference)].concat();
    assert_eq!(errors(&movie), [""; 0]);
    assert!(described(&movie).has("video-external-data"));
}

#[test]
fn positions_and_texts_are_read_from_user_data() {
    let text = |kind: &[u8; 4], value: &str| bx(kind, &[&(value.len() as u16).to_be_bytes(), &[0x15, 0xC7], value.as_bytes()].concat());
    let user_data = bx(b"udta", &[text(b"\xA9nam", "Preuve 12"), text(b"\xA9xyz", "+48.8577+002.2950/")].concat());
    let facts = described(&Recipe { beside: user_data, ..Recipe::default() }.build());
    assert_eq!(facts.metadata["video:©nam"], "Preuve 12");
    assert_eq!(facts.signals[0].code.as_str(), "video-gps");
    let place = [&be32s(&[0])[..], &[0x15, 0xC7], b"Paris\0", &[0], &be32s(&[2 << 16, 48 << 16, 0])].concat();
    let facts = described(&Recipe { beside: bx(b"udta", &bx(b"loci", &place)), ..Recipe::default() }.build());
    assert_eq!(facts.signals[0].args["position"], crate::model::finding::Arg::Str("+48.0000+2.0000".to_owned()));
}

#[test]
fn apple_keys_are_read() {
    let keys = bx(b"keys", &[be32s(&[0, 1]), bx(b"mdta", b"com.apple.quicktime.model")].concat());
    let value = bx(b"data", &[&be32s(&[1, 0])[..], b"iPhone"].concat());
    let item = [be32s(&[value.len() as u32 + 8, 1]), value].concat();
    let meta = bx(b"meta", &[bx(b"hdlr", &[0; 24]), keys, bx(b"ilst", &item)].concat());
    let facts = described(&Recipe { beside: meta, ..Recipe::default() }.build());
    assert_eq!(facts.metadata["video:com.apple.quicktime.model"], "iPhone");
}

#[test]
fn a_compressed_index_is_inflated_within_bounds() {
    let compressed = |movie: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, movie).unwrap();
        let data = [be32s(&[movie.len() as u32]), encoder.finish().unwrap()].concat();
        bx(b"moov", &bx(b"cmov", &[bx(b"dcom", b"zlib"), bx(b"cmvd", &data)].concat()))
    };
    let media = bx(b"mdat", &frame().repeat(200));
    let ftyp = bx(b"ftyp", b"qt  \0\0\0\0");
    let movie = Recipe::default().movie(ftyp.len() as u32 + 8);
    let whole = [&ftyp[..], &media, &compressed(&movie)].concat();
    assert_eq!(codes(&whole), [""; 0]);
    assert_eq!(detail(&described(&whole)).duration, Some(20.0));
    let bomb = [&ftyp[..], &media, &compressed(&vec![0; 65 << 20])].concat();
    assert_eq!(codes(&bomb), ["video-index-bomb"]);
}

#[test]
fn fragments_add_up_and_a_missing_one_is_seen() {
    let whole = fragmented(4);
    let facts = described(&whole);
    assert_eq!(facts.signals, []);
    assert_eq!((detail(&facts).duration, detail(&facts).tracks[0].samples), (Some(20.0), Some(200)));
    assert_eq!(codes(&whole[..whole.len() - 500]), ["video-truncated"]);
    assert_eq!(codes(&fragmented(0)), ["video-no-media"]);
    let mut hole = whole.clone();
    let end = hole.len();
    hole[end - 1000..].fill(0);
    assert_eq!(codes(&hole), ["video-damaged-frames"]);
    let mut shifted = whole;
    let second = memchr::memmem::find_iter(&shifted, b"moof").nth(1).unwrap();
    shifted.drain(second - 104..second - 4);
    assert!(!errors(&shifted).is_empty());
}

#[test]
fn a_run_of_four_billion_equal_samples_costs_nothing() {
    let run = bx(b"trun", &be32s(&[0x1, u32::MAX, 0]));
    let fragment = bx(b"moof", &bx(b"traf", &[bx(b"tfhd", &be32s(&[0, 1])), run].concat()));
    assert_eq!(errors(&[fragmented(0), fragment].concat()), ["video-truncated"]);
}

#[test]
fn a_whole_avi_is_described_without_a_signal() {
    let facts = described(&avi());
    assert_eq!(facts.signals, []);
    let video = detail(&facts);
    assert_eq!((video.duration, video.tracks[0].codec.as_str(), video.tracks[0].height), (Some(2.0), "MJPG", Some(720)));
}

#[test]
fn a_cut_avi_is_truncated_and_one_without_index_is_odd() {
    let whole = avi();
    assert_eq!(codes(&whole[..whole.len() / 2]), ["video-truncated"]);
    let index = memchr::memmem::find(&whole, b"idx1").unwrap();
    let mut closed = whole[..index].to_vec();
    let size = closed.len() as u32 - 8;
    closed[4..8].copy_from_slice(&size.to_le_bytes());
    assert_eq!(codes(&closed), ["video-index-odd"]);
    let mut elsewhere = whole.clone();
    for entry in elsewhere[index + 8..].chunks_exact_mut(16) {
        entry[8] ^= 0x55;
    }
    assert_eq!(codes(&elsewhere), ["video-index-odd"]);
}

#[test]
fn an_overwritten_avi_is_corrupt() {
    let mut bytes = avi();
    let movi = memchr::memmem::find(&bytes, b"movi").unwrap();
    bytes[movi + 500..movi + 900].fill(0x81);
    assert_eq!(errors(&bytes), ["video-corrupt"]);
    assert_eq!(errors(&riff(b"RIFF", b"AVI ")), ["video-corrupt"]);
}

#[test]
fn a_whole_flv_is_described_and_a_cut_one_is_truncated() {
    let whole = flv(10.0);
    let facts = described(&whole);
    assert_eq!(facts.signals, []);
    let video = detail(&facts);
    assert_eq!((video.duration, video.tracks[0].codec.as_str(), video.tracks[0].width), (Some(9.9), "avc1", Some(1280)));
    assert_eq!(codes(&whole[..whole.len() - 100]), ["video-truncated"]);
    assert_eq!(codes(&flv(60.0)), ["video-index-odd"]);
    let mut overwritten = whole;
    overwritten[2000..4000].fill(0x3C);
    assert_eq!(codes(&overwritten), ["video-corrupt"]);
}

#[test]
fn filtered_tags_of_an_flv_are_encrypted() {
    let mut bytes = b"FLV\x01\x01\0\0\0\x09\0\0\0\0".to_vec();
    bytes.extend(flv_tag(0x29, 0, &[1, 2, 3]));
    assert_eq!(codes(&bytes), ["video-encrypted"]);
}

#[test]
fn what_follows_the_video_is_told() {
    for whole in [mp4(), avi(), flv(10.0)] {
        assert_eq!(codes(&[&whole[..], &[0; 64]].concat()), [""; 0]);
        assert_eq!(codes(&[&whole[..], b"%PDF-1.7"].concat()), ["video-polyglot"]);
        assert_eq!(codes(&[&whole[..], b"<html><script>"].concat()), ["video-polyglot"]);
    }
    assert_eq!(codes(&[&mp4()[..], b"\x01\x02\x03 some notes"].concat()), ["video-trailing-data"]);
    assert_eq!(codes(&[mp4(), mp4()].concat()), ["video-trailing-data"]);
}

#[test]
fn a_repeated_box_is_damage_where_players_refuse_it_and_a_warning_where_they_do_not() {
    for kind in [b"tkhd", b"mdia", b"mdhd", b"minf", b"stbl", b"stsd"] {
        let facts = described(&Recipe { twice: Some(kind), ..Recipe::default() }.build());
        assert!(facts.has("video-corrupt"), "{}: {:?}", String::from_utf8_lossy(kind), facts.signals);
    }
    for kind in [b"mvhd", b"hdlr", b"stts", b"stsc", b"stsz", b"stco"] {
        let file = Recipe { twice: Some(kind), ..Recipe::default() }.build();
        assert_eq!(codes(&file), ["video-tables-disagree"], "{}", String::from_utf8_lossy(kind));
        // Two tables of samples that differ show different pictures in different players.
        let mut differs = file;
        let second = memchr::memmem::find_iter(&differs, &kind[..]).nth(1).unwrap();
        differs[second + 15] ^= 1;
        let is_table = matches!(kind, b"stsc" | b"stsz" | b"stco");
        assert_eq!(described(&differs).has("video-corrupt"), is_table, "{}", String::from_utf8_lossy(kind));
    }
}

#[test]
fn tables_that_lose_samples_are_damage_and_those_that_players_mend_are_a_warning() {
    let of = |recipe: Recipe| codes(&recipe.build());
    assert_eq!(of(Recipe { unplaced: 20, ..Recipe::default() }), ["video-corrupt"]);
    assert_eq!(
        of(Recipe { first_chunk: 2, ..Recipe::default() }),
        ["video-corrupt"],
        "the first chunk, and here the only one, has no samples"
    );
    assert_eq!(of(Recipe { untimed: 20, ..Recipe::default() }), ["video-tables-disagree"]);
    assert_eq!(of(Recipe { untimed: 1, unplaced: 1, ..Recipe::default() }), [""; 0]);
    let mut undescribed = mp4();
    let runs = memchr::memmem::find(&undescribed, b"stsc").unwrap();
    undescribed[runs + 23] = 2;
    assert_eq!(codes(&undescribed), ["video-corrupt"], "the second of one description");
    // Sizes of 150 frames while chunks and durations speak of 200.
    let mut unsized_frames = mp4();
    let table = memchr::memmem::find(&unsized_frames, b"stsz").unwrap();
    unsized_frames[table + 12..table + 16].copy_from_slice(&150u32.to_be_bytes());
    assert_eq!(codes(&unsized_frames), ["video-corrupt"]);
}

#[test]
fn a_document_in_a_box_that_players_skip_is_a_second_format() {
    let document = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\nstartxref\n0\n%%EOF";
    for kind in [b"free", b"skip", b"wide", b"uuid", b"abcd", b"mdat"] {
        let file = [mp4(), bx(kind, document), bx(b"free", &[0; 70_000])].concat();
        assert_eq!(errors(&file), ["video-polyglot"], "{}", String::from_utf8_lossy(kind));
    }
    let user_data = bx(b"udta", &bx(b"name", document));
    assert_eq!(errors(&Recipe { beside: user_data, ..Recipe::default() }.build()), ["video-polyglot"]);
    assert_eq!(codes(&[mp4(), bx(b"free", b"exported as %PDF-1.4, see manual")].concat()), [""; 0]);
}

#[test]
fn fragments_whose_track_is_not_described_are_damage() {
    let whole = fragmented(2);
    for name in [b"stbl", b"stsd", b"trak"] {
        let mut hidden = whole.clone();
        let at = memchr::memmem::find(&hidden, &name[..]).unwrap();
        hidden[at..at + 4].copy_from_slice(b"free");
        assert_eq!(errors(&hidden), ["video-corrupt"], "{}", String::from_utf8_lossy(name));
    }
    let mut elsewhere = whole;
    let header = memchr::memmem::find(&elsewhere, b"tkhd").unwrap();
    elsewhere[header + 16..header + 20].copy_from_slice(&7u32.to_be_bytes());
    assert_eq!(errors(&elsewhere), ["video-corrupt"], "fragments of a track that is not there");
}

/// Chunks of the index may all point at the same bytes: what is followed is counted, and twice as many cost twice as much.
#[test]
fn the_work_of_overlapping_samples_is_linear() {
    let work = |frames: u32| {
        let mut ctx = Context::new(Limits::default());
        inspect(&Recipe { frames, ..Recipe::default() }.build(), &mut ctx, &mut Facts::default());
        ctx.budget.worked()
    };
    let (once, twice) = (work(20_000), work(40_000));
    assert!(twice > once && twice * 10 <= once * 23, "{once} {twice}");
}

#[test]
fn the_budget_is_respected() {
    let mut ctx = Context::new(Limits { max_work: 0, ..Limits::default() });
    for bytes in [mp4(), avi(), flv(10.0), fragmented(3)] {
        let mut facts = Facts::default();
        inspect(&bytes, &mut ctx, &mut facts);
        assert!(facts.has("bomb-time"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn mutated_videos_never_panic(
        which in 0usize..6,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..10),
        cut in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let recipe = Recipe { frames: 20, ..Recipe::default() };
        let mut bytes = match which {
            0 => recipe.build(),
            1 => Recipe { fast_start: true, ..recipe }.build(),
            2 => fragmented(2),
            3 => avi(),
            4 => flv(10.0),
            _ => Recipe { beside: bx(b"udta", &bx(b"loci", &[0; 30])), ..recipe }.build(),
        };
        // Half of the edits fall on the structures and not on the media that fills most of the file.
        let structures = memchr::memmem::find(&bytes, b"moov").unwrap_or(0);
        for (at, value, near) in &edits {
            let span = if *near { structures..bytes.len().min(structures + 800) } else { 0..bytes.len() };
            let at = span.start + at.index(span.len());
            bytes[at] = *value;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = described(&bytes);
    }

    #[test]
    fn any_bytes_after_any_magic_are_survived(
        magic in prop::sample::select(vec![&b"FLV\x01\x05\0\0\0\x09"[..], b"RIFF\xFF\xFF\0\0AVI LIST", b"\0\0\0\x08ftyp\0\0\0\0moov", b""]),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = described(&[magic, &bytes].concat());
    }
}
