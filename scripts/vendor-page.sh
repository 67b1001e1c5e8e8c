#!/usr/bin/env bash
# Puts the page's chart library, uPlot, where the page has it: the version below, as
# published, checked against the digest below, with its license.
#
#   scripts/vendor-page.sh            writes connmgrhttp/internal/page/static/assets/uplot
#   scripts/vendor-page.sh --check    only says whether what is there is what was published
#
# It needs npm, which asks whatever registry it is set up for. For another version,
# change the first two values (the digest is what "npm view uplot@VERSION dist.integrity"
# prints), run it, and copy the hashes it prints into connmgrhttp/internal/page/vendored_test.go.
set -euo pipefail

version=1.6.32
integrity=sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==

die() {
  echo "vendor-page: $1" >&2
  exit 1
}

check=
if [ "${1:-}" = --check ]; then
  check=yes
  shift
fi
[ $# -eq 0 ] || die "usage: scripts/vendor-page.sh [--check]"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
to=$PWD/connmgrhttp/internal/page/static/assets/uplot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

archive=$(cd "$work" && npm pack --silent "uplot@$version") || die "npm cannot get uplot $version"
got=sha512-$(openssl dgst -sha512 -binary "$work/$archive" | base64 -w 0)
[ "$got" = "$integrity" ] || die "uplot $version has the digest $got, want $integrity"
tar -xzf "$work/$archive" -C "$work"

mkdir "$work/uplot"
cp "$work/package/LICENSE" "$work/package/dist/uPlot.iife.min.js" "$work/package/dist/uPlot.min.css" "$work/uplot/"
chmod 644 "$work/uplot/"*

if [ -n "$check" ]; then
  diff -r "$work/uplot" "$to" || die "$to is not uplot $version as published"
  echo "uplot $version, as published"
  exit
fi
rm -rf "$to"
mkdir -p "$(dirname "$to")"
cp -r "$work/uplot" "$to"
cd "$to" && sha256sum -- *
