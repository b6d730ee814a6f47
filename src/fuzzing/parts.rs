//! Containers written from a list of parts, so that the fuzzer works on what is in them instead of on checksums,
//! compression and sector tables.
//!
//! A list is lines `=== NAME`, each followed by the bytes of that part up to the next such line.

use std::io::{Cursor, Write as _};

/// Parts written at most.
const MAX_PARTS: usize = 64;

/// The parts of a list, by name.
pub fn parts(list: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    const MARK: &[u8] = b"\n=== ";
    let first = list.strip_prefix(&MARK[1..]);
    let mut rest = first.or_else(|| memchr::memmem::find(list, MARK).map(|at| &list[at + MARK.len()..]));
    std::iter::from_fn(move || {
        let part = rest?;
        let end = memchr::memmem::find(part, MARK);
        rest = end.map(|end| &part[end + MARK.len()..]);
        let part = &part[..end.unwrap_or(part.len())];
        let (name, content) = part.split_at(memchr::memchr(b'\n', part).unwrap_or(part.len()));
        Some((std::str::from_utf8(name).unwrap_or("?"), content.get(1..).unwrap_or_default()))
    })
    .take(MAX_PARTS)
}

/// A ZIP of the parts, stored.
pub fn zip(list: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in parts(list) {
        // A name given twice is refused by the writer; the target `zip` has the containers that no writer makes.
        if zip.start_file(name, stored).is_ok() {
            zip.write_all(content).expect("memory takes everything");
        }
    }
    zip.finish().expect("memory takes everything").into_inner()
}

/// A compound file of the parts as streams; `a/b` stands in the storage `a`.
pub fn compound(list: &[u8]) -> Vec<u8> {
    let mut file = cfb::CompoundFile::create(Cursor::new(Vec::new())).expect("memory takes everything");
    // The writer writes other names without complaint, and asserts in debug builds that it does not.
    let writable = |name: &str| name.split('/').all(|n| n.encode_utf16().count() < 32 && !n.contains(['\\', ':', '!']));
    for (name, content) in parts(list).filter(|(name, _)| writable(name)) {
        if let Some((storage, _)) = name.rsplit_once('/')
            && file.create_storage_all(storage).is_err()
        {
            continue;
        }
        if let Ok(mut stream) = file.create_new_stream(name) {
            stream.write_all(content).expect("memory takes everything");
        }
    }
    file.flush().expect("memory takes everything");
    file.into_inner().into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_part_by_part() {
        let all: Vec<_> = parts(b"left out\n=== a/b.xml\n<a/>\n\n=== c\n=== d").collect();
        let nothing: &[u8] = &[];
        assert_eq!(all, [("a/b.xml", b"<a/>\n".as_slice()), ("c", nothing), ("d", nothing)]);
        assert_eq!(parts(b"=== a\nb").next(), Some(("a", b"b".as_slice())));
        assert_eq!(parts(b"nothing").next(), None);
    }
}
