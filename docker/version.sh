#!/bin/sh
# sh docker/version.sh TAG: the version, as Python's packages have it, of an image with that tag.
#
# No tag may have a `+`: `make images` writes `-` for it. A tag that is no version (`dev`, and all letters,
# digits, `.`, `_` and `-` that a tag can have) stands behind the version that pyproject.toml falls back to.
set -eu
case "$1" in
    [0-9]* | v[0-9]*) printf '%s\n' "${1#v}" | sed 's/-/+/' ;;
    *) printf '0.1.0.dev0+%s\n' "$1" ;;
esac
