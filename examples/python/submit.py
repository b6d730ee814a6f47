#!/usr/bin/env python3
"""Dépose une candidature auprès de greffier et suit son contrôle jusqu'au verdict.

    python3 submit.py submission.json --amqp amqp://… --staging s3://BUCKET [--endpoint URL]
    python3 submit.py submission.json --amqp amqp://… --staging /chemin/du/dossier

`submission.json` suit docs/schemas/submission.json ; `object` y donne, pour chaque fichier, un chemin relatif à ce document.
Code de sortie : 0 accepté, 1 rejeté, 2 document ou configuration à corriger, 3 indéterminé (panne, délai, mis de côté).

An example for developers of upload services, on purpose without cleverness. What matters in it, in this order:
  1. bytes go to staging under their own digest, create-only; the message carries references;
  2. the message is persistent, `mandatory`, and confirmed by the broker before anybody is told that it was sent;
  3. its id is derived from its body: sending it again is harmless, so after a lost connection it is simply sent again;
  4. events may come twice: those with an id that was seen are skipped; unknown types are ignored.
"""

import argparse
import base64
import datetime
import hashlib
import json
import os
import pathlib
import secrets
import sys
import tempfile
import time
import unicodedata

import pika
import pika.exceptions

ACCEPTED, REJECTED, USAGE, UNDETERMINED = 0, 1, 2, 3
EXIT = {"accepted": ACCEPTED, "accepted_with_warnings": ACCEPTED, "rejected": REJECTED, "undetermined": UNDETERMINED}
JOB_TYPE = "greffier.submission.requested.v1"
# A connection that is lost so often in a row is not lost by chance.
ATTEMPTS = 5
# Larger objects cannot be put in one request.
S3_SINGLE_PUT = 5 * 1024**3


class Refused(Exception):
    """Something for a person to mend."""


# --- staging ------------------------------------------------------------------------------------------------------


def digest_of(path):
    """Size and SHA-256 of a file of any size."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest


class DirectoryStaging:
    """A folder shared with the workers."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        if not self.root.is_dir():
            raise Refused(f"le dossier d'attente {root} n'existe pas")

    def put(self, key, path, _size, _digest):
        target = self.root / key
        # Where greffier writes as well: no key leads there.
        spool = self.root / ".spool"
        for folder in (target.parent, spool):
            folder.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, and never over what is there.
        with tempfile.NamedTemporaryFile(dir=spool) as copy, open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
            os.chmod(copy.name, 0o444)
            try:
                os.link(copy.name, target)
            except FileExistsError:
                pass  # The key is the digest: what is there is the same.


class S3Staging:
    """A bucket. Credentials as for every AWS tool: environment, profile, role."""

    def __init__(self, bucket, endpoint):
        import boto3
        from botocore.config import Config

        # Servers other than Amazon's rarely have a host name for each bucket.
        config = Config(s3={"addressing_style": "path"}) if endpoint else None
        self.bucket, self.client = bucket, boto3.client("s3", endpoint_url=endpoint, config=config)

    def put(self, key, path, size, digest):
        from botocore.exceptions import ClientError

        if size > S3_SINGLE_PUT:
            self.client.upload_file(str(path), self.bucket, key)
            return
        with open(path, "rb") as file:
            try:
                # The server compares what arrives with the digest, and does not replace what is there.
                checksum = base64.b64encode(digest.digest()).decode()
                self.client.put_object(Bucket=self.bucket, Key=key, Body=file, ChecksumSHA256=checksum, IfNoneMatch="*")
            except ClientError as error:
                # 412: it is there. 409: somebody is writing the same at this moment.
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                    raise


def stage(submission, folder, staging):
    """Puts every file into staging and turns its path into a key, with its true size and digest."""
    for item in submission.get("items", []):
        file = item.get("file")
        if file is None:
            continue
        path = folder / file["object"]
        try:
            size, digest = digest_of(path)
        except OSError as error:
            raise Refused(f"{path} : {error.strerror}") from error
        key = f"uploads/{digest.hexdigest()[:2]}/{digest.hexdigest()}"
        staging.put(key, path, size, digest)
        file |= {"object": key, "size": size, "sha256": digest.hexdigest()}


# --- the message --------------------------------------------------------------------------------------------------


def properties(body, submission, reply_to):
    """The attributes of the job: CloudEvents as headers, and the properties that every AMQP tool shows."""
    # Derived, not drawn: the same submission has the same id, however often it is sent.
    message_id = hashlib.sha256(body).hexdigest()[:32]
    now = datetime.datetime.now(datetime.timezone.utc)
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent,
        message_id=message_id,
        correlation_id=message_id,
        type=JOB_TYPE,
        reply_to=reply_to,
        timestamp=int(now.timestamp()),
        headers={
            "cloudEvents:specversion": "1.0",
            "cloudEvents:id": message_id,
            "cloudEvents:type": JOB_TYPE,
            "cloudEvents:source": "https://example.org/depot",
            "cloudEvents:time": now.isoformat(),
            # What fairness between vendors counts by.
            "cloudEvents:candidature": submission.get("candidature", {}).get("number", ""),
        },
    )


# --- what is told -------------------------------------------------------------------------------------------------


def safe(text, most=300):
    """Names and details come from strangers: nothing of them moves the cursor of this terminal."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return kept if len(kept) <= most else kept[:most] + "…"


class Follower:
    """Prints events; `code` is set once one of them ends the job."""

    def __init__(self):
        self.seen, self.code = set(), None

    def take(self, props, body):
        headers = props.headers or {}
        event_id = headers.get("cloudEvents:id") or props.message_id
        if event_id in self.seen:
            return
        self.seen.add(event_id)
        kind = headers.get("cloudEvents:type") or props.type
        event = json.loads(body)
        if kind == "greffier.submission.received.v1":
            print(f"Reçu : {event['items']} élément(s) à contrôler, travail {event['job'][:12]}", file=sys.stderr)
        elif kind == "greffier.item.checked.v1":
            mark = {"accepted": "✔", "accepted_with_warnings": "!", "rejected": "✘"}.get(event["verdict"], "?")
            first = event["findings"][0]["summary"]["fr"] if event["findings"] else ""
            line = f"[{event['done']}/{event['total']}] {mark} {safe(event['name'], 120)}"
            print(f"{line} — {safe(first)}" if first else line, file=sys.stderr)
        elif kind == "greffier.submission.delayed.v1":
            print(f"Remis à plus tard, nouvel essai automatique : {said(event)}", file=sys.stderr)
        elif kind == "greffier.submission.parked.v1":
            print(f"Indéterminé : {said(event)}\nUn exploitant doit intervenir ; vous n'avez rien à corriger.")
            self.code = UNDETERMINED
        elif kind in ("greffier.bundle.ready.v1", "greffier.submission.rejected.v1"):
            for line in event["message"]["fr"].splitlines():
                print(safe(line, 2000))
            print(f"Verdict : {event['verdict']}\nPaquet : {safe(event['objects']['bundle']['key'])}")
            self.code = EXIT.get(event["verdict"], UNDETERMINED)
        # Anything else is of a later version, and not for us.


def said(event):
    return f"{event['explanation']['fr']} [{event['reason']['code']}] {safe(event['reason']['detail'])}"


# --- the broker ---------------------------------------------------------------------------------------------------


def send_and_follow(args, submission, body, follower, deadline):
    """One connection: a reply queue, the job, then events until the end or the deadline."""
    with pika.BlockingConnection(pika.URLParameters(args.amqp)) as connection:
        channel = connection.channel()
        # Ours alone, and gone with the connection. Declared before the job is sent: no event is missed.
        reply_to = f"{args.prefix}.reply.{secrets.token_hex(8)}"
        channel.queue_declare(reply_to, exclusive=True, auto_delete=True)
        channel.confirm_delivery()
        try:
            # Returns once the broker has it on disk; raises if no queue takes it.
            channel.basic_publish(f"{args.prefix}.jobs", args.lane, body, properties(body, submission, reply_to), mandatory=True)
        except pika.exceptions.UnroutableError as error:
            raise Refused("aucune file ne reçoit ce dépôt : aucun worker n'a encore démarré, ou --prefix diffère du sien") from error
        print("Déposé, en attente d'un worker…", file=sys.stderr)
        for method, props, event in channel.consume(reply_to, auto_ack=True, inactivity_timeout=1):
            if method is not None:
                follower.take(props, event)
            if follower.code is not None or time.monotonic() > deadline:
                return


def follow_to_the_end(args, submission, body):
    follower, deadline = Follower(), time.monotonic() + args.timeout
    failures = 0
    while follower.code is None and time.monotonic() < deadline:
        try:
            send_and_follow(args, submission, body, follower, deadline)
        except pika.exceptions.NackError as error:
            raise SystemExit(stop(UNDETERMINED, "le broker n'a pas pris le dépôt ; réessayez plus tard")) from error
        except pika.exceptions.ChannelClosedByBroker as error:
            raise Refused(f"le broker refuse : {safe(error.reply_text)}") from error
        except pika.exceptions.AMQPConnectionError as error:
            failures += 1
            if failures >= ATTEMPTS:
                raise SystemExit(stop(UNDETERMINED, f"le broker est injoignable ({type(error).__name__})")) from error
            # The reply queue is gone with the connection; the job is not. Sent again, it is the same job: a worker that has
            # finished it tells its outcome once more, one that has not goes on.
            print("Connexion perdue, nouvel essai…", file=sys.stderr)
            time.sleep(min(2**failures, 15))
    return follower.code


def stop(code, words):
    print(f"submit.py : {words}", file=sys.stderr)
    return code


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("document", type=pathlib.Path, help="document de soumission (JSON)")
    parser.add_argument("--amqp", default=os.environ.get("GREFFIER_AMQP"), help="adresse du broker (ou GREFFIER_AMQP)")
    parser.add_argument("--staging", required=True, help="s3://BUCKET, ou un dossier partagé avec les workers")
    parser.add_argument("--endpoint", help="serveur S3, si ce n'est pas Amazon")
    parser.add_argument("--prefix", default="greffier", help="queue.prefix des workers")
    parser.add_argument("--lane", default="submission", choices=["interactive", "submission", "replay"])
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECONDES")
    args = parser.parse_args()
    if not args.amqp:
        parser.error("--amqp ou GREFFIER_AMQP est nécessaire")
    try:
        try:
            submission = json.loads(args.document.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Refused(f"{args.document} : {error}") from error
        if args.staging.startswith("s3://"):
            staging = S3Staging(args.staging.removeprefix("s3://").strip("/"), args.endpoint)
        else:
            staging = DirectoryStaging(args.staging)
        # Before connecting: an upload may take longer than a broker waits for a sign of life.
        stage(submission, args.document.parent, staging)
        # Sorted: the same document is the same bytes, hence the same message.
        body = json.dumps(submission, ensure_ascii=False, sort_keys=True).encode()
        code = follow_to_the_end(args, submission, body)
    except Refused as why:
        return stop(USAGE, why)
    if code is None:
        return stop(UNDETERMINED, "pas de résultat dans le délai ; le dépôt reste en file, relancez la même commande pour le suivre")
    return code


if __name__ == "__main__":
    sys.exit(main())
