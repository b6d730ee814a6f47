#!/bin/sh
# Buckets and users of the compose fleet; run again at every start, and harmless then.
set -eu
mc alias set local http://storage:9000 "$(cat /run/secrets/storage_root_user)" "$(cat /run/secrets/storage_root_password)" >/dev/null
mc mb --ignore-existing local/staging
# Object lock can only be had when a bucket is made; vault.lock_days uses it.
mc mb --ignore-existing --with-lock local/vault
mc admin policy create local greffier /policy.json
# On standard input, so that the secret is in no process list.
printf '%s\n%s\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" | mc admin user add local
mc admin policy attach local greffier --user "$AWS_ACCESS_KEY_ID" || mc admin policy entities local --user "$AWS_ACCESS_KEY_ID"
