//! Tests of the journal: appends survive crashes and concurrent writers, and a changed line is found.

use std::process::Command;

use proptest::prelude::*;

use super::*;

const CHILD: &str = "GREFFIER_TEST_JOURNAL";

fn moment(second: u64) -> Timestamp {
    Timestamp::from_second(1_795_424_400 + i64::try_from(second).unwrap()).unwrap()
}

fn fields(n: u64) -> Fields {
    Fields::from([("n".into(), n.into()), ("who".into(), "Éditeur \"\u{2028}\n\\".into()), ("ok".into(), true.into())])
}

/// A folder with a journal of so many lines.
fn journal(lines: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut journal = Journal::open(&path).unwrap();
    for n in 0..lines {
        journal.append(moment(n), "checked", fields(n)).unwrap();
    }
    (folder, path)
}

fn line_of(error: &JournalError) -> u64 {
    match error {
        JournalError::Broken { line, .. } | JournalError::Torn { line, .. } | JournalError::Rewritten { line, .. } => *line,
        other => panic!("{other}"),
    }
}

#[test]
fn lines_are_written_as_documented_and_read_back() {
    let (_folder, path) = journal(0);
    let mut journal = Journal::open(&path).unwrap();
    journal.append(moment(0), "received", Fields::from([("files".into(), 239_u64.into())])).unwrap();
    let second = journal.append(moment(1), "checked", Fields::new()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let body = format!(
        r#"{{"seq":0,"at":"2026-11-23T09:00:00Z","event":"received","fields":{{"files":239}},"prev":"{}"}}"#,
        hex::encode(Sha256::digest("greffier/journal/1"))
    );
    let hash = hex::encode(Sha256::digest(&body));
    assert_eq!(lines[0], format!(r#"{},"hash":"{hash}"}}"#, body.strip_suffix('}').unwrap()));
    assert_eq!((second.seq, &second.prev), (1, &hash));
    let mut entries = Vec::new();
    let head = read(&path, |e| entries.push(e)).unwrap();
    assert_eq!(entries[1], second);
    assert_eq!(head, Head { entries: 2, hash: second.hash });
    assert_eq!(&head, journal.head());
}

#[test]
fn lines_kept_elsewhere_are_the_lines_of_the_file() {
    let (_folder, path) = journal(3);
    let (mut head, mut bytes, mut heads) = (Head::empty(), Vec::new(), vec![Head::empty()]);
    for n in 0..3 {
        let (line, after) = line(&head, moment(n), "checked", fields(n)).unwrap();
        bytes.extend_from_slice(&line);
        heads.push(after.clone());
        head = after;
    }
    assert_eq!(bytes, std::fs::read(&path).unwrap());
    let (entries, read_head) = read_lines(&bytes).unwrap();
    assert_eq!((entries.len(), &read_head), (3, &head));
    witnessed(&entries, &head, &heads).unwrap();
    let rewritten = Head { entries: 2, hash: heads[1].hash.clone() };
    assert!(matches!(witnessed(&entries, &head, &[rewritten]), Err(JournalError::Rewritten { line: 2, .. })));
    let (fewer, shorter) = read_lines(&bytes[..bytes.len() / 3]).unwrap();
    assert!(matches!(witnessed(&fewer, &shorter, &heads), Err(JournalError::Shortened { found: 1, entries: 3, .. })));
    assert!(matches!(read_lines(&bytes[..bytes.len() - 1]), Err(JournalError::Torn { line: 3, .. })));
    assert_eq!(read_lines(&[]).unwrap(), (Vec::new(), Head::empty()));
    assert_eq!(line(&head, moment(0), "Checked", Fields::new()).unwrap_err().code(), "JOURNAL-EVENT");
}

#[test]
fn an_empty_journal_verifies_and_a_missing_one_does_not() {
    let (folder, path) = journal(0);
    assert_eq!(verify(&path, &[Head::empty()]).unwrap(), Head::empty());
    assert_eq!(verify(&folder.path().join("none"), &[]).unwrap_err().code(), "JOURNAL-IO");
}

#[test]
fn the_first_broken_line_is_named_whatever_was_done_to_it() {
    let (_folder, path) = journal(5);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let rehashed = |line: &str| {
        let body = format!("{}}}", &line.trim_end()[..line.trim_end().len() - HASH_MEMBER]);
        format!("{},\"hash\":\"{}\"}}\n", body.strip_suffix('}').unwrap(), hex::encode(Sha256::digest(&body)))
    };
    let changed = lines[2].replace("checked", "blessed");
    let spaced = rehashed(&lines[2].replacen("{\"seq\"", "{ \"seq\"", 1));
    let doubled = rehashed(&lines[2].replacen("{\"seq\":2", "{\"seq\":2,\"seq\":2", 1));
    let renumbered = rehashed(&lines[2].replacen("\"seq\":2", "\"seq\":9", 1));
    let real = rehashed(&lines[2].replacen("\"n\":2", "\"n\":2.5", 1));
    let cases: [(&str, String, u64, Flaw); 12] = [
        ("changed", [lines[0], lines[1], &changed, lines[3]].concat(), 3, Flaw::Hash),
        ("changed and hashed again", [lines[0], lines[1], &rehashed(&changed), lines[3]].concat(), 4, Flaw::Previous),
        ("removed", [lines[0], lines[2]].concat(), 2, Flaw::Previous),
        ("first removed", [lines[1], lines[2]].concat(), 1, Flaw::Previous),
        ("swapped", [lines[0], lines[2], lines[1]].concat(), 2, Flaw::Previous),
        ("twice", [lines[0], lines[0]].concat(), 2, Flaw::Previous),
        ("another spelling", [lines[0], lines[1], &spaced].concat(), 3, Flaw::Spelling),
        ("repeated member", [lines[0], lines[1], &doubled].concat(), 3, Flaw::Form),
        ("another number", [lines[0], lines[1], &renumbered].concat(), 3, Flaw::Sequence),
        ("real number", [lines[0], lines[1], &real].concat(), 3, Flaw::Form),
        ("empty line", [lines[0], "\n"].concat(), 2, Flaw::Form),
        ("no journal", "hello\n".into(), 1, Flaw::Form),
    ];
    for (what, text, expected, flaw_expected) in cases {
        std::fs::write(&path, text).unwrap();
        match verify(&path, &[]) {
            Err(JournalError::Broken { line, flaw, .. }) => assert_eq!((line, flaw), (expected, flaw_expected), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        // Nothing is added to a history that does not hold.
        let before = std::fs::read(&path).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().code(), "JOURNAL-BROKEN", "{what}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
    let mut long = vec![b'a'; MAX_LINE + 1];
    long.push(b'\n');
    std::fs::write(&path, long).unwrap();
    assert!(matches!(verify(&path, &[]), Err(JournalError::Broken { line: 1, flaw: Flaw::TooLong, .. })));
}

#[test]
fn witnesses_tell_what_a_chain_cannot() {
    let (_folder, path) = journal(5);
    let mut heads = vec![Head::empty()];
    let last = read(&path, |e| heads.push(Head { entries: e.seq + 1, hash: e.hash })).unwrap();
    assert_eq!(verify(&path, &heads).unwrap(), last);
    // Cut after a whole line.
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.split_inclusive('\n').take(3).collect::<String>()).unwrap();
    assert_eq!(verify(&path, &heads[..4]).unwrap(), heads[3]);
    assert!(matches!(verify(&path, &heads), Err(JournalError::Shortened { found: 3, entries: 5, .. })));
    // Written anew, as long as before.
    std::fs::remove_file(&path).unwrap();
    let mut anew = Journal::open(&path).unwrap();
    for n in 0..5 {
        anew.append(moment(n), if n < 2 { "checked" } else { "invented" }, fields(n)).unwrap();
    }
    verify(&path, &heads[..3]).unwrap();
    assert_eq!(line_of(&verify(&path, &heads[..4]).unwrap_err()), 3);
    let wrong = Head { entries: 0, hash: heads[1].hash.clone() };
    assert_eq!(verify(&path, &[wrong]).unwrap_err().code(), "JOURNAL-REWRITTEN");
}

#[test]
fn a_crash_at_any_byte_of_the_last_line_loses_nothing_in_silence() {
    let (folder, path) = journal(2);
    let whole = std::fs::read(&path).unwrap();
    let kept_lines = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for cut in kept_lines + 1..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let torn = &whole[kept_lines..cut];
        match verify(&path, &[]) {
            Err(JournalError::Torn { line: 2, bytes, .. }) => assert_eq!(bytes, torn.len() as u64),
            other => panic!("{other:?}"),
        }
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), &whole[..cut], "opening changes nothing");
        let entry = journal.append(moment(9), "resumed", Fields::new()).unwrap();
        assert_eq!(entry.seq, 2);
        let mut entries = Vec::new();
        read(&path, |e| entries.push(e)).unwrap();
        assert_eq!(entries.iter().map(|e| e.event.as_str()).collect::<Vec<_>>(), ["checked", TORN_EVENT, "resumed"]);
        let Some(Field::Text(kept)) = entries[1].fields.get("kept") else { panic!("{entries:?}") };
        assert_eq!(std::fs::read(folder.path().join(kept)).unwrap(), torn);
    }
}

#[test]
fn a_crash_while_the_torn_bytes_are_moved_repeats_the_move() {
    let (folder, path) = journal(2);
    let mut whole = std::fs::read(&path).unwrap();
    whole.extend_from_slice(b"torn");
    std::fs::write(&path, &whole).unwrap();
    // Copied, not yet cut.
    set_aside(&OpenOptions::new().read(true).append(true).open(&path).unwrap(), &path, whole.len() as u64 - 4).unwrap();
    std::fs::write(&path, &whole).unwrap();
    Journal::open(&path).unwrap().append(moment(9), "resumed", Fields::new()).unwrap();
    assert_eq!(verify(&path, &[]).unwrap().entries, 4);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "the journal and one file of torn bytes");
}

#[test]
fn a_writer_that_crashed_under_an_open_handle_is_noticed_by_the_next_append() {
    let (_folder, path) = journal(1);
    let mut open = Journal::open(&path).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\0\0\0").unwrap();
    open.append(moment(2), "checked", fields(2)).unwrap();
    assert_eq!(verify(&path, &[]).unwrap().entries, 3);
}

#[test]
fn a_journal_exchanged_or_cut_under_an_open_handle_is_refused() {
    let (folder, path) = journal(2);
    let mut open = Journal::open(&path).unwrap();
    std::fs::rename(&path, folder.path().join("rotated")).unwrap();
    std::fs::copy(folder.path().join("rotated"), &path).unwrap();
    assert_eq!(open.append(moment(3), "checked", Fields::new()).unwrap_err().code(), "JOURNAL-REPLACED");
    let mut open = Journal::open(&path).unwrap();
    let length = path.metadata().unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 5).unwrap();
    assert_eq!(open.append(moment(3), "checked", Fields::new()).unwrap_err().code(), "JOURNAL-TRUNCATED");
}

#[test]
fn events_that_are_no_words_and_lines_beyond_the_bound_are_refused_and_leave_nothing_behind() {
    let (_folder, path) = journal(1);
    let mut open = Journal::open(&path).unwrap();
    for wrong in ["", "Checked", "a b", "é", &"a".repeat(65)] {
        assert_eq!(open.append(moment(1), wrong, Fields::new()).unwrap_err().code(), "JOURNAL-EVENT");
    }
    let long = Fields::from([("text".into(), "x".repeat(MAX_LINE).into())]);
    assert_eq!(open.append(moment(1), "checked", long).unwrap_err().code(), "JOURNAL-TOO-LONG");
    open.append(moment(1), "checked", Fields::from([("text".into(), "x".repeat(MAX_LINE - 400).into())])).unwrap();
    assert_eq!(verify(&path, &[]).unwrap().entries, 2);
}

#[test]
fn writers_in_threads_and_processes_make_one_chain() {
    const EACH: u64 = 25;
    let (_folder, path) = journal(0);
    let mut children: Vec<_> = (0..2)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "seal::journal::tests::appends_as_a_child_process", "--test-threads=1"])
                .env(CHILD, &path)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| append_many(&path, EACH));
        }
    });
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(verify(&path, &[]).unwrap().entries, 4 * EACH);
}

fn append_many(path: &Path, count: u64) {
    let mut journal = Journal::open(path).unwrap();
    for n in 0..count {
        journal.append(moment(n), "checked", fields(std::process::id().into())).unwrap();
    }
}

/// The other process of the test above; nothing of its own.
#[test]
fn appends_as_a_child_process() {
    if let Some(path) = std::env::var_os(CHILD) {
        append_many(Path::new(&path), 25);
    }
}

#[test]
fn every_refusal_begins_with_its_code() {
    let path = PathBuf::from("j");
    for error in [
        JournalError::Io { path: path.clone(), source: io::Error::other("x") },
        JournalError::Broken { path: path.clone(), line: 1, flaw: Flaw::Hash },
        JournalError::Torn { path: path.clone(), line: 1, bytes: 1 },
        JournalError::Rewritten { path: path.clone(), line: 1 },
        JournalError::Shortened { path: path.clone(), found: 1, entries: 2 },
        JournalError::Truncated { path: path.clone() },
        JournalError::Replaced { path },
        JournalError::Event("x".into()),
        JournalError::TooLong { bytes: 1 },
    ] {
        assert!(error.to_string().starts_with(&format!("{}: ", error.code())), "{error}");
    }
}

proptest! {
    #[test]
    fn any_changed_byte_is_detected_at_or_before_its_line(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let (_folder, path) = journal(4);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        std::fs::write(&path, &bytes).unwrap();
        let error = verify(&path, &[]).unwrap_err();
        let line = 1 + bytes[..at].iter().filter(|b| **b == b'\n').count() as u64;
        prop_assert_eq!(line_of(&error), line);
    }

    #[test]
    fn any_removed_or_added_byte_is_detected(at in any::<prop::sample::Index>(), added in any::<Option<u8>>()) {
        let (_folder, path) = journal(3);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        match added {
            Some(byte) => bytes.insert(at, byte),
            None => drop(bytes.remove(at)),
        }
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(verify(&path, &[]).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        prop_assert!(verify(file.path(), &[]).is_err());
    }

    #[test]
    fn any_fields_survive_the_round_trip(texts in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..5), number in any::<i64>()) {
        let (_folder, path) = journal(1);
        let mut fields: Fields = texts.into_iter().map(|(k, v)| (k, Field::Text(v))).collect();
        fields.insert("number".into(), Field::Number(number));
        Journal::open(&path).unwrap().append(moment(1), "checked", fields.clone()).unwrap();
        let mut last = None;
        read(&path, |e| last = Some(e.fields)).unwrap();
        prop_assert_eq!(last, Some(fields));
    }
}
