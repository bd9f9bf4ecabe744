#!/bin/sh
# Writes the secrets that deploy/compose.yaml mounts: those that are missing, never over an existing one.
#
#   sh deploy/secrets.sh
#
# They go to SECRETS_DIR (of the environment, else of deploy/.env), by default deploy/secrets. A relative
# path counts from deploy/, as it does for Compose.
#
# A bind mount keeps this machine's modes, and the containers run as users of their own (10001, 999, 472):
# so everybody may read the files, and the directory lets no other user of this machine in.
set -eu
umask 077

fail() {
    printf 'secrets.sh: %s\n' "$*" >&2
    exit 1
}

random() {
    od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n'
}

# put NAME VALUE: whole or not at all. `ln` refuses a name that exists, which `mv` would replace.
put() {
    printf '%s\n' "$2" >"$temporary"
    chmod 0444 "$temporary"
    ln "$temporary" "$directory/$1"
    rm -f "$temporary"
    printf 'Wrote %s\n' "$directory/$1"
    written=yes
}

# put_random NAME: unless it is there.
put_random() {
    if [ ! -e "$directory/$1" ]; then
        value=$(random)
        [ "${#value}" -eq 48 ] || fail "/dev/urandom gave no random bytes."
        put "$1" "$value"
    fi
    [ -s "$directory/$1" ] || fail "$directory/$1 is empty: remove it and run this again."
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ -z "${SECRETS_DIR+set}" ] && [ -f "$here/.env" ]; then
    said="s/^SECRETS_DIR=[\"']\{0,1\}\([^\"'#]*\).*/\1/p"
    SECRETS_DIR=$(sed -n "$said" "$here/.env" | sed 's/[[:space:]]*$//' | tail -n 1)
fi
cd "$here"
mkdir -p -- "${SECRETS_DIR:-./secrets}"
directory=$(CDPATH='' cd -- "${SECRETS_DIR:-./secrets}" && pwd)
# Not changed here: the directory may be one that others need.
case $(ls -ld "$directory/.") in
    drwx--[-S]---*) ;;
    *) fail "other users may enter $directory: chmod 0700 it, or name another in SECRETS_DIR." ;;
esac

written=no
temporary=$directory/.new.$$
trap 'rm -f "$temporary"' EXIT
trap 'exit 1' HUP INT TERM

put_random redis_password
put_random grafana_password
password=$(cat "$directory/redis_password")
case $password in
    *[!A-Za-z0-9._~-]*)
        # It would have to be percent-encoded in a URL.
        [ -s "$directory/redis_url" ] \
            || fail "redis_password has characters that a URL does not take: write redis_url yourself."
        ;;
    *)
        [ -e "$directory/redis_url" ] || put redis_url "redis://:$password@store:6379/0"
        case $(cat "$directory/redis_url") in
            *":$password@"*) ;;
            *) fail "redis_url has not the password of redis_password: remove redis_url and run this again." ;;
        esac
        ;;
esac
[ "$written" = yes ] || printf 'All secrets are in %s already.\n' "$directory"
