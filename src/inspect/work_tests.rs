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
    let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for i in 0..count {
        writer.start_file(name(i), ::zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A PDF with one page whose only font has `map` as its `/ToUnicode`.
fn pdf_with_map(map: &[u8]) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut offsets = Vec::new();
    let packed = zlib(map);
    let content = b"BT /F 12 Tf (Bonjour) Tj ET";
    let stream =
        |dict: &str, data: &[u8]| [format!("<<{dict}/Length {}>>\nstream\n", data.len()).as_bytes(), data, b"\nendstream"].concat();
    for (i, body) in [
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>".to_vec(),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>".to_vec(),
        stream("", content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>".to_vec(),
        stream("/Filter/FlateDecode", &packed),
    ]
    .iter()
    .enumerate()
    {
        offsets.push(out.len());
        out.extend(format!("{} 0 obj\n", i + 1).as_bytes());
        out.extend(body);
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
    assert_linear("pictures", |n| zip_of(n, |i| format!("{i}.png"), &flat_png(800, 600)), 10);
    assert_linear("members", |n| zip_of(n, |i| format!("dossier/{i}.txt"), b"x"), 500);
    assert_linear("ranges", |n| pdf_with_map(&b"beginbfrange <0000> <00FF> <0041> endbfrange\n".repeat(n)), 5_000);
    assert_linear("lines", |n| b"Preuve\n".repeat(n), 20_000);
    assert_linear("cells", |n| b"a;b;c;d\n".repeat(n), 20_000);
}

#[test]
fn small_files_that_cost_much_end_at_the_same_place_each_time() {
    let pictures = zip_of(20, |i| format!("{i}.png"), &flat_png(4_000, 1_000));
    let limits = Limits { max_work: 100_000_000, ..Limits::default() };
    let (work, facts) = read(&pictures, limits.clone());
    assert!(facts.has_anywhere("bomb-time") && !facts.has_anywhere("inspect-clock"), "{:?}", facts.signals);
    assert_eq!((work, facts), read(&pictures, limits));
}
