//! One job at a time: published, told, the same wherever it runs; and every way in which it is not.

use greffier::model::Verdict;
use greffier::model::event::{BUNDLE_READY, ITEM_CHECKED, SUBMISSION_DELAYED, SUBMISSION_RECEIVED, SUBMISSION_REJECTED};
use greffier::model::message::{Envelope, Lane, SUBMISSION_REQUESTED};
use greffier::model::submission::{Content, FileRef, FiledUnder, Item, LinkRef};
use greffier::queue::Place;
use greffier::store::{Content as Bytes, Key};
use greffier::worker::config::{StagingPolicy, UndeterminedPolicy};
use greffier::worker::records;
use rustix::process::Signal;

use super::harness::{Ended, Fleet, Kind, end, envelope, service, short_leases};

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_checked_published_and_told_the_same_everywhere() {
    let mut manifests = Vec::new();
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |_| ()).await;
        let worker = fleet.worker();
        let submission = fleet.submission(1).await;
        let mut following = fleet.submit(Lane::Submission, &submission).await;
        let outcome = following.outcome(&worker).await;
        let kinds = following.kinds();
        assert_eq!(kinds.first(), Some(&SUBMISSION_RECEIVED), "{kinds:?}");
        assert_eq!(kinds.iter().filter(|k| **k == ITEM_CHECKED).count(), 2, "{kinds:?}");
        assert!(matches!(kinds.last(), Some(&(BUNDLE_READY | SUBMISSION_REJECTED))), "{kinds:?}");
        for event in &following.told {
            assert_eq!(event.correlation_id, envelope(&submission).correlation_id);
            assert_eq!(event.subject.as_deref(), Some(outcome.about.job.as_str()));
        }

        // Everything that is named is there, and is what its digest says.
        let objects = &outcome.objects;
        for object in [&objects.bundle, &objects.report, &objects.page] {
            let bytes = records::read_bytes(fleet.vault.as_ref(), &object.key.parse().unwrap(), 1 << 30).await.unwrap().unwrap();
            assert_eq!(bytes.len() as u64, object.size);
            assert_eq!(hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes)), object.sha256);
            if object.key.ends_with(".zip") {
                let path = fleet.dir.path().join("bundle.zip");
                std::fs::write(&path, bytes).unwrap();
                assert_eq!(fleet.command().arg("verify").arg(&path).output().unwrap().status.code(), Some(0));
            }
        }
        let audit = fleet.audit();
        assert_eq!((&audit["received"], &audit["in_flight"]), (&1.into(), &0.into()), "{audit}");
        assert_eq!(audit["missing"].as_array().map(Vec::len), Some(0), "{audit}");
        manifests.push((outcome.about.job, outcome.report, outcome.objects.manifest_sha256, outcome.objects.bundle.sha256));
    }
    assert!(manifests.windows(2).all(|pair| pair[0] == pair[1]), "the fitting shows in the bundle: {manifests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_submission_again_is_told_again_and_made_once() {
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |_| ()).await;
        let worker = fleet.worker();
        let submission = fleet.submission(2).await;
        let mut first = fleet.submit(Lane::Submission, &submission).await;
        let one = first.outcome(&worker).await;
        let mut second = fleet.submit(Lane::Replay, &submission).await;
        let two = second.outcome(&worker).await;
        assert_eq!(one, two);
        assert_eq!(first.told.last().unwrap().id, second.told.last().unwrap().id, "a consumer must be able to tell that it is the same");
        assert_eq!(second.told.len(), 1, "nothing is done again: {:?}", second.kinds());
        assert_eq!(fleet.records("outcomes/").await.len(), 1);
        // Checked ahead of a deposit, it is told apart from the deposit, whatever was deposited before.
        let ahead = fleet.submit(Lane::Interactive, &submission).await.outcome(&worker).await;
        assert!(ahead.about.precheck && !one.about.precheck);
        assert_ne!(ahead.about.job, one.about.job);
        assert_eq!(ahead.report, one.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_a_job_is_parked_with_its_reason_and_nothing_else_waits_for_it() {
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |_| ()).await;
        let worker = fleet.worker();
        let mut wrong_schema = fleet.submission(3).await;
        wrong_schema.schema = "greffier/submission/9".into();
        let mut unknown = fleet.submission(4).await;
        unknown.demarche = "../../etc/passwd".into();
        let garbage: [(&str, Vec<u8>, &str); 6] = [
            (SUBMISSION_REQUESTED, b"{".to_vec(), "JOB-MALFORMED"),
            (SUBMISSION_REQUESTED, vec![0xFF; 1_000_000], "JOB-MALFORMED"),
            (SUBMISSION_REQUESTED, "[".repeat(1_000_000).into_bytes(), "JOB-MALFORMED"),
            (SUBMISSION_REQUESTED, serde_json::to_vec(&wrong_schema).unwrap(), "JOB-MALFORMED"),
            (SUBMISSION_REQUESTED, serde_json::to_vec(&unknown).unwrap(), "JOB-DEMARCHE-UNKNOWN"),
            ("greffier.submission.requested.v9", b"{}".to_vec(), "JOB-TYPE-UNKNOWN"),
        ];
        for (n, (kind, body, _)) in garbage.iter().enumerate() {
            fleet.send(Lane::Submission, &Envelope::new(format!("garbage-{n}"), *kind, "test", body.clone())).await;
        }
        let good = fleet.submission(5).await;
        fleet.submit(Lane::Submission, &good).await.outcome(&worker).await;
        fleet
            .until("six parked", Some(&worker), async |fleet| fleet.queue.peek(Place::Parked, 100).await.unwrap().len() == garbage.len())
            .await;
        for waiting in fleet.queue.peek(Place::Parked, 100).await.unwrap() {
            let n: usize = waiting.message.id.strip_prefix("garbage-").unwrap().parse().unwrap();
            assert_eq!(waiting.reason.as_ref().map(|r| r.code.as_str()), Some(garbage[n].2), "{waiting:?}");
        }
        let audit = fleet.audit();
        assert_eq!((&audit["unread"], &audit["received"]), (&garbage.len().into(), &1.into()), "{audit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs clamd; run by scripts/test"]
async fn a_file_beyond_the_limits_of_a_required_antivirus_is_told_at_the_first_attempt() {
    let mib = 1024 * 1024;
    let fleet = Fleet::new(Kind::Embedded, |config| {
        config.antivirus.engines = vec![service("GREFFIER_TEST_CLAMD_SMALL")];
        config.antivirus.required = true;
        config.antivirus.max_stream_bytes = mib;
        config.worker.max_file_bytes = mib;
    })
    .await;
    let worker = fleet.worker();
    let mut submission = fleet.submission(1).await;
    let archive = crate::antivirus::zipped("a.csv", &b"cas;valeur\n".repeat(300_000));
    assert!((archive.len() as u64) < mib, "it is received");
    let object = fleet.stage(&archive).await;
    submission.items.push(Item {
        id: "archive".into(),
        filed_under: FiledUnder::Preuve("APCV.01".into()),
        content: Content::File(FileRef { object, name: "export.zip".into(), size: None, media_type: None, sha256: None }),
    });
    let mut following = fleet.submit(Lane::Submission, &submission).await;
    let outcome = following.outcome(&worker).await;
    assert_eq!(outcome.verdict, Verdict::Rejected);
    assert!(!following.kinds().contains(&SUBMISSION_DELAYED), "{:?}", following.kinds());
    let report =
        records::read::<serde_json::Value>(fleet.vault.as_ref(), &outcome.objects.report.key.parse().unwrap()).await.unwrap().unwrap();
    let item = report["items"].as_array().unwrap().iter().find(|i| i["id"] == "archive").unwrap();
    assert!(crate::support::codes(item).contains(&"antivirus-beyond-limits".to_owned()), "{item}");
    let said =
        report["limitations"].as_array().unwrap().iter().any(|l| l["en"].as_str().unwrap().starts_with("1 file(s) could not be scanned"));
    assert!(said && item["path"].is_string(), "it is in the bundle, and not as clean: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_file_is_told_of_that_file() {
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |config| {
            config.worker.max_file_bytes = 1_000;
        })
        .await;
        let worker = fleet.worker();
        let mut submission = fleet.submission(6).await;
        let file = |id: &str, object: String| Item {
            id: id.into(),
            filed_under: FiledUnder::Preuve("APCV.01".into()),
            content: Content::File(FileRef { object, name: format!("{id}.txt"), size: None, media_type: None, sha256: None }),
        };
        submission.items.push(file("large", fleet.stage(&[b'a'; 1_001]).await));
        submission.items.push(file("absent", "uploads/never".into()));
        submission.items.push(file("escape", "../vault/secret".into()));
        submission.items.push(file("reserved", ".spool/x".into()));
        // Changed in staging after its sender had hashed it.
        let staged = fleet.stage(b"as it was uploaded, and declared\n").await;
        let mut swapped = file("swapped", staged.clone());
        if let Content::File(file) = &mut swapped.content {
            file.sha256 = staged.strip_prefix("uploads/").map(str::to_owned);
        }
        fleet.staging.remove(&Key::ours(staged.clone())).await.unwrap();
        fleet.staging.create(&Key::ours(staged), Bytes::Bytes(b"something else altogether\n"), "text/plain").await.unwrap();
        submission.items.push(swapped);
        let mut following = fleet.submit(Lane::Submission, &submission).await;
        let outcome = following.outcome(&worker).await;
        let report =
            records::read::<serde_json::Value>(fleet.vault.as_ref(), &outcome.objects.report.key.parse().unwrap()).await.unwrap().unwrap();
        let codes = |id: &str| {
            let item = report["items"].as_array().unwrap().iter().find(|i| i["id"] == id).unwrap();
            crate::support::codes(item)
        };
        for (id, code) in [
            ("large", "item-too-large-to-receive"),
            ("absent", "item-source-missing"),
            ("escape", "item-not-a-file"),
            ("reserved", "item-not-a-file"),
            ("swapped", "file-digest-differs"),
        ] {
            assert!(codes(id).contains(&code.to_owned()), "{id}: {:?}", codes(id));
        }
        assert!(!codes("APCV.01/note.txt").iter().any(|c| c.starts_with("item-")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_undetermined_is_tried_again_then_parked_and_requeued_by_command() {
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |_| ()).await;
        let worker = fleet.worker();
        let submission = honest(&fleet, 7).await;
        let mut following = fleet.submit(Lane::Submission, &submission).await;
        let Ended::Parked(parked) = following.end(Some(&worker)).await else { panic!("published: {:?}", following.kinds()) };
        assert_eq!(parked["reason"]["code"], "JOB-UNDETERMINED", "{parked}");
        assert_eq!(following.kinds().iter().filter(|k| **k == SUBMISSION_DELAYED).count(), 2, "{:?}", following.kinds());
        assert_eq!(fleet.audit()["parked"], 1);

        // The outside world is well again, as far as this operator is concerned. It is told before it is put aside.
        end(worker).await;
        let message_id = parked["message_id"].as_str().unwrap().to_owned();
        let requeued = fleet.command().args(["queue", "requeue", &message_id]).output().unwrap();
        assert!(requeued.status.success(), "{}", String::from_utf8_lossy(&requeued.stderr));
        let mut config = fleet.config.clone();
        config.worker.undetermined = UndeterminedPolicy::Publish;
        std::fs::write(fleet.config_path(), toml::to_string(&config).unwrap()).unwrap();
        let worker = fleet.worker();
        let outcome = following.outcome(&worker).await;
        assert_eq!(outcome.verdict, greffier::model::Verdict::Undetermined);
        let audit = fleet.audit();
        assert_eq!((&audit["parked"], &audit["undetermined"]), (&0.into(), &1.into()), "{audit}");
    }
}

/// A submission with nothing wrong but a link that cannot be asked, as the fleet is offline.
pub(super) async fn honest(fleet: &Fleet, n: usize) -> greffier::model::submission::Submission {
    let loaded = greffier::pipeline::load(&crate::support::root().join("pipelines/lgc-vague-2.toml")).unwrap();
    let mut submission = fleet.submission(n).await;
    submission.items.clear();
    let url = "https://interop.referencement.esante.gouv.fr/evs/report.seam?oid=1.3.6.1.4.1.12559.11.36.4.1";
    let chapter = match &submission.stage {
        greffier::model::submission::Stage::Chapter { chapter } => chapter.clone(),
        other => panic!("{other:?}"),
    };
    for preuve in loaded.applicable(&submission.candidature) {
        if loaded.pipeline.chapter(&preuve.chapter).is_some_and(|c| c.id == chapter) {
            let filed_under = FiledUnder::Preuve(preuve.id.clone());
            submission.items.push(Item { id: preuve.id.clone(), filed_under, content: Content::Link(LinkRef { url: url.into() }) });
        }
    }
    assert!(!submission.items.is_empty());
    submission
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_revision_says_what_changed_since_the_first() {
    let fleet = Fleet::new(Kind::Embedded, |config| config.worker.staging = StagingPolicy::Remove).await;
    let worker = fleet.worker();
    let first = fleet.submission(8).await;
    fleet.submit(Lane::Submission, &first).await.outcome(&worker).await;
    fleet.until("staging is empty", Some(&worker), async |f| f.staging.list("uploads/", None, 10).await.unwrap().is_empty()).await;
    let mut second = fleet.submission(8).await;
    second.revision = 2;
    if let Content::File(file) = &mut second.items[0].content {
        file.object = fleet.stage(b"une autre preuve, plus claire\n").await;
        (file.size, file.sha256) = (None, None);
    }
    let outcome = fleet.submit(Lane::Submission, &second).await.outcome(&worker).await;
    let report =
        records::read::<serde_json::Value>(fleet.vault.as_ref(), &outcome.objects.report.key.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(report["round"]["counts"]["changed"], 1, "{}", report["round"]["counts"]);
    assert_eq!(report["round"]["counts"]["unchanged"], 1, "{}", report["round"]["counts"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_outcome_has_a_receipt_that_a_journal_bears_out() {
    let fleet = Fleet::new(Kind::Embedded, |_| ()).await;
    let key = fleet.dir.path().join("seal.jwk");
    assert!(fleet.command().args(["keys", "new", "--out"]).arg(&key).output().unwrap().status.success());
    let keys = fleet.command().args(["keys", "public"]).arg(&key).output().unwrap().stdout;
    let jwk = std::fs::read_to_string(&key).unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut worker = fleet.command();
    let mut child = worker.env("GREFFIER_SEAL_KEY", jwk.trim()).arg("worker").stderr(log.reopen().unwrap()).spawn().unwrap();
    let submission = fleet.submission(9).await;
    let ended = fleet.submit(Lane::Submission, &submission).await.end(None).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let Ended::Outcome(outcome) = ended else { panic!("{ended:?}") };
    let keys = greffier::seal::KeySet::from_jwks(std::str::from_utf8(&keys).unwrap()).unwrap();
    let read = async |object: &greffier::model::event::Object| {
        String::from_utf8(records::read_bytes(fleet.vault.as_ref(), &object.key.parse().unwrap(), 1 << 24).await.unwrap().unwrap()).unwrap()
    };
    let seal = read(outcome.objects.seal.as_ref().unwrap()).await;
    greffier::seal::verify(&outcome.objects.manifest_sha256, &seal, &keys).unwrap();
    let receipt = read(outcome.objects.receipt.as_ref().unwrap()).await;
    let receipt = greffier::seal::receipt::verify(&receipt, &keys).unwrap().receipt;
    assert_eq!(receipt.report, outcome.report);
    let (entries, head) = greffier::worker::journal::read(fleet.vault.as_ref(), &outcome.about.job).await.unwrap();
    greffier::seal::journal::witnessed(&entries, &head, &[receipt.journal.unwrap()]).unwrap();
    let events: Vec<_> = entries.iter().map(|e| e.event.as_str()).collect();
    assert_eq!(events, ["received", "begun", "checked", "receipt", "published"]);
    assert!(!std::fs::read_to_string(log.path()).unwrap().contains("\"d\":"), "a private key in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_drains_and_the_rest_is_given_back() {
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |config| {
            config.worker.drain_seconds = 1;
            config.worker.submission_jobs = 1;
            // Far longer than this test waits.
            config.queue.lease_seconds = 3_600;
        })
        .await;
        let mut worker = fleet.worker();
        worker.says("working").await;
        for n in 100..110 {
            let submission = fleet.submission(n).await;
            fleet.send(Lane::Submission, &envelope(&submission)).await;
        }
        fleet.until("work has begun", Some(&worker), async |f| !f.records("received/").await.is_empty()).await;
        worker.signal(Signal::TERM);
        assert_eq!(worker.exit().await, Some(0), "{}", worker.log());
        assert!(worker.log().contains("stopped"), "{}", worker.log());
        // Another one does the rest, without waiting for any lease or connection to end.
        let next = fleet.worker();
        fleet.until("all ten are published", Some(&next), async |f| f.records("outcomes/").await.len() == 10).await;
        assert_eq!(fleet.records("parked/").await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_leaves_its_job_to_the_next() {
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, short_leases).await;
        let mut worker = fleet.worker();
        let submission = fleet.submission(10).await;
        let mut following = fleet.submit(Lane::Submission, &submission).await;
        fleet.until("work has begun", Some(&worker), async |f| !f.records("received/").await.is_empty()).await;
        worker.kill();
        let next = fleet.worker();
        following.outcome(&next).await;
        let audit = fleet.audit();
        assert_eq!(audit["missing"].as_array().map(Vec::len), Some(0), "{audit}");
        // The spool of the dead is swept.
        let spools = std::fs::read_dir(&fleet.config.worker.spool).unwrap().count();
        assert_eq!(spools, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_it_must_be_is_named_before_any_work() {
    let fleet = Fleet::new(Kind::Embedded, |_| ()).await;
    let run = |change: &dyn Fn(&mut greffier::config::Config)| {
        let mut config = fleet.config.clone();
        change(&mut config);
        std::fs::write(fleet.config_path(), toml::to_string(&config).unwrap()).unwrap();
        let output = fleet.command().arg("worker").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, words) = run(&|config| {
        config.antivirus.engines = vec!["127.0.0.1:9".into()];
        config.antivirus.required = true;
    });
    assert!(code == Some(2) && words.contains("NOT-FIT") && words.contains("127.0.0.1:9"), "{code:?} {words}");
    let (code, words) = run(&|config| config.pipelines.folders = vec!["nowhere".into()]);
    assert!(code == Some(2) && words.contains("PIPELINE-NOT-FOUND"), "{code:?} {words}");
    let (code, words) = run(&|config| {
        config.queue.kind = greffier::queue::config::QueueKind::Amqp;
        config.queue.urls = vec!["amqp://someone:secret-word@127.0.0.1:9/%2f".into()];
    });
    assert!(code == Some(2) && words.contains("127.0.0.1:9") && !words.contains("secret-word"), "{code:?} {words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_follows_a_folder_to_its_bundle() {
    let fleet = Fleet::new(Kind::Embedded, |config| config.worker.undetermined = UndeterminedPolicy::Publish).await;
    let _worker = fleet.worker();
    let out = fleet.dir.path().join("out");
    let submitted = fleet
        .command()
        .args(["submit", "fixtures/dossiers/lgc-demo", "--lane", "interactive", "--timeout", "120", "--json", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(submitted.status.code(), Some(1), "{}", String::from_utf8_lossy(&submitted.stderr));
    let outcome: serde_json::Value = serde_json::from_slice(&submitted.stdout).unwrap();
    assert_eq!(outcome["verdict"], "rejected");
    assert_eq!(outcome["missing"], 1);
    let zip = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "zip")).unwrap();
    assert_eq!(fleet.command().arg("verify").arg(&zip).output().unwrap().status.code(), Some(0));
}
