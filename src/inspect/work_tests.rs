//! What hostile files of each family cost, in counted work: it grows with the file, and ends where the limit says.

use std::io::Write as _;

use super::*;

/// The work of reading `bytes`, and the facts.
fn read(bytes: &[u8], limits: Limits) -> (u64, Facts) {
    let mut ctx = Context::new(limits);
    let facts = inspect(bytes, &mut ctx);
    (ctx.budget.worked(), facts)
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
}

/// A picture of one value, in a few kilobytes whatever its size.
fn flat_png(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[1, 0, 0, 0, 0]].concat();
    let rows = vec![0u8; (width as usize).div_ceil(8).saturating_add(1) * height as usize];
    let chunks = [png_chunk(b"IHDR", &header), png_chunk(b"IDAT", &zlib(&rows)), png_chunk(b"IEND", b"")];
    [b"\x89PNG\r\n\x1A\n".to_vec(), chunks.concat()].concat()
}

fn zip_of(count: usize, name: impl Fn(usize) -> String, content: &[u8]) -> Vec<u8> {
    zip_of_each(count, |i| (name(i), content.to_vec()))
}

fn zip_of_each(count: usize, member: impl Fn(usize) -> (String, Vec<u8>)) -> Vec<u8> {
    let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for i in 0..count {
        let (name, content) = member(i);
        writer.start_file(name, ::zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(&content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A PDF with one page whose only font has `map` as its `/ToUnicode`.
fn pdf_with_map(map: &[u8]) -> Vec<u8> {
    let packed = zlib(map);
    let content = b"BT /F 12 Tf (Bonjour) Tj ET";
    let stream =
        |dict: &str, data: &[u8]| [format!("<<{dict}/Length {}>>\nstream\n", data.len()).as_bytes(), data, b"\nendstream"].concat();
    pdf_of(&[
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        &stream("", content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>",
        &stream("/Filter/FlateDecode", &packed),
    ])
}

/// A PDF of these objects, numbered from 1; the first is the catalogue.
fn pdf_of(objects: &[&[u8]]) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut offsets = Vec::new();
    for (i, body) in objects.iter().enumerate() {
        offsets.push(out.len());
        out.extend(format!("{} 0 obj\n", i + 1).as_bytes());
        out.extend(*body);
        out.extend(b"\nendobj\n");
    }
    let start = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", offsets.len() + 1).as_bytes());
    for offset in &offsets {
        out.extend(format!("{offset:010} 00000 n \n").as_bytes());
    }
    out.extend(format!("trailer\n<</Size {}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n", offsets.len() + 1).as_bytes());
    out
}

/// Twice the input may cost at most this many tenths of what the input costs.
const LINEAR: u64 = 23;

fn assert_linear(what: &str, make: impl Fn(usize) -> Vec<u8>, n: usize) {
    let (once, _) = read(&make(n), Limits::default());
    let (twice, _) = read(&make(2 * n), Limits::default());
    assert!(twice > once && twice * 10 <= once * LINEAR, "{what}: {once} units, then {twice}");
}

#[test]
fn twice_the_input_costs_about_twice_the_work() {
    assert_linear("pixels", |n| flat_png(4_000, n as u32), 500);
    assert_linear("pictures", |n| zip_of_each(n, |i| (format!("{i}.png"), flat_png(800, 600 + i as u32))), 10);
    assert_linear("members", |n| zip_of(n, |i| format!("dossier/{i}.txt"), b"x"), 500);
    assert_linear("ranges", |n| pdf_with_map(&b"beginbfrange <0000> <00FF> <0041> endbfrange\n".repeat(n)), 5_000);
    assert_linear("lines", |n| b"Preuve\n".repeat(n), 20_000);
    assert_linear("cells", |n| b"a;b;c;d\n".repeat(n), 20_000);
}

/// A PDF of one page that draws `content`, `times` times.
fn pdf_of_contents(content: &[u8], times: usize) -> Vec<u8> {
    let page = format!("<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents[{}]>>", "4 0 R ".repeat(times));
    let packed = zlib(content);
    let stream = [format!("<</Filter/FlateDecode/Length {}>>\nstream\n", packed.len()).as_bytes(), &packed, b"\nendstream"].concat();
    pdf_of(&[b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page.as_bytes(), &stream])
}

/// A PDF whose `count` pages share one content.
fn pdf_of_pages(content: &[u8], count: usize) -> Vec<u8> {
    let kids: String = (0..count).map(|i| format!("{} 0 R ", i + 4)).collect();
    let tree = format!("<</Type/Pages/Kids[{kids}]/Count {count}>>");
    let packed = zlib(content);
    let stream = [format!("<</Filter/FlateDecode/Length {}>>\nstream\n", packed.len()).as_bytes(), &packed, b"\nendstream"].concat();
    let page: &[u8] = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 3 0 R>>";
    let objects = [&[&b"<</Type/Catalog/Pages 2 0 R>>"[..], tree.as_bytes(), &stream][..], &vec![page; count]].concat();
    pdf_of(&objects)
}

/// A progressive JPEG of one component, flat, whose data is refined by `scans` scans of a few kilobytes each.
fn jpeg_of_scans(side: u16, scans: usize) -> Vec<u8> {
    let segment = |marker: u8, data: &[u8]| [&[0xFF, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat();
    let size = side.to_be_bytes();
    let mut code = vec![0u8; 18]; // class and number, sixteen counts, the only symbol
    code[1] = 1;
    let bits = vec![0u8; usize::from(side).div_ceil(8).pow(2).div_ceil(8)];
    let mut out = vec![0xFF, 0xD8];
    out.extend(segment(0xDB, &[&[0u8][..], &[1; 64]].concat()));
    out.extend(segment(0xC2, &[&[8][..], &size, &size, &[1, 1, 0x11, 0]].concat()));
    out.extend(segment(0xC4, &code));
    out.extend([segment(0xDA, &[1, 1, 0, 0, 0, 1]), bits.clone()].concat());
    for _ in 0..scans {
        out.extend([segment(0xDA, &[1, 1, 0, 0, 0, 0x10]), bits.clone()].concat());
    }
    out.extend([0xFF, 0xD9]);
    out
}

#[test]
fn small_files_that_cost_much_end_at_the_same_place_each_time() {
    let ranges = pdf_with_map(&b"beginbfrange <0000> <00FF> <0041> endbfrange\n".repeat(100_000));
    // Pictures that differ by their size, so that none is known from the one before.
    let pictures = zip_of_each(20, |i| (format!("{i}.png"), flat_png(4_000, 1_000 + i as u32)));
    let files = [
        ("pictures", pictures),
        ("contents", pdf_of_contents(&b"q Q ".repeat(20_000), 10_000)),
        ("blanks between tokens", pdf_of_contents(&b" ".repeat(1_000_000), 10_000)),
        ("ranges", ranges),
        ("pages", pdf_of_pages(&b"0 0 1 1 re f ".repeat(2_000), 1_500)),
        ("scans", jpeg_of_scans(2_000, 400)),
    ];
    // As much as an unoptimised build does in a fraction of the time at which the clock strikes.
    let limits = Limits { max_work: 50_000_000, ..Limits::default() };
    for (what, file) in files {
        let (work, facts) = read(&file, limits.clone());
        assert!(facts.has_anywhere("bomb-time") && !facts.has_anywhere("inspect-clock"), "{what}: {work} {:?}", facts.signals);
        assert_eq!((work, facts), read(&file, limits.clone()), "{what}");
    }
}

/// What one unit stands for must not depend on what is read, or the limit would end one kind early and leave another to the
/// clock. The bound is wide because other tests run on the same cores.
#[test]
fn a_unit_of_work_takes_about_as_long_whatever_is_read() {
    let kinds = [
        ("pixels", flat_png(6_000, 1_000)),
        ("scans", jpeg_of_scans(2_000, 10)),
        ("content", pdf_of_contents(&b"1 0 0 1 0 0 cm ".repeat(20_000), 1)),
        ("ranges", pdf_with_map(&b"beginbfrange <0000> <00FF> <0041> endbfrange\n".repeat(10_000))),
        ("lines", b"Preuve de la tenue des exigences\n".repeat(20_000)),
        ("cells", b"a;b;c;d\n".repeat(20_000)),
    ];
    let thread_time = || {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
    };
    let cost = kinds.map(|(what, file)| {
        let start = thread_time();
        let (work, _) = read(&file, Limits::default());
        (what, (thread_time() - start) / work as f64)
    });
    let (least, most) = cost.iter().fold((f64::MAX, 0f64), |(least, most), (_, c)| (least.min(*c), most.max(*c)));
    assert!(most < least * 30.0, "{cost:?}");
}

#[test]
fn the_same_picture_is_decoded_once_in_an_archive() {
    let archive = |count| read(&zip_of(count, |i| format!("{i}/logo.png"), &flat_png(1_000, 800)), Limits::default());
    let ((one, _), (twenty, facts)) = (archive(1), archive(20));
    assert!(twenty < one * 3, "{one} {twenty}");
    let Some(crate::model::facts::Detail::Archive(archive)) = facts.detail else { panic!() };
    assert!(archive.members.iter().all(|m| m.facts.as_ref().is_some_and(|f| f.has("image-blank"))));
}

#[test]
fn the_same_content_is_drawn_a_stated_number_of_times() {
    let work = |times| read(&pdf_of_contents(&b"q Q ".repeat(500), times), Limits::default()).0;
    let (some, many) = (work(1_000), work(10_000));
    assert!(many < some * 2, "{some} {many}");
}
