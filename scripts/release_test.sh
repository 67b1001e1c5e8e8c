#!/usr/bin/env bash
# Tries release.sh on a throwaway clone of this repository: what it must refuse,
# then a whole release. The clone's last commit counts, not the work tree.
set -euo pipefail
unset GOWORK

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone -q --no-tags . "$work/repo"
cd "$work/repo"
git config user.name "Release test"
git config user.email "release-test@localhost"
git config commit.gpgSign false
git config tag.gpgSign false

fail() {
  echo "release_test: $1" >&2
  exit 1
}

# refuses runs a release that must fail, with a message that has the given words.
refuses() {
  local words=$1 output
  shift
  if output=$(scripts/release.sh "$@" 2>&1); then
    fail "release.sh $* worked, want a refusal that says \"$words\""
  fi
  [[ $output == *"$words"* ]] || fail "release.sh $* said: $output; want \"$words\" in it"
}

version=v0.0.1-rc.1

for malformed in 1.2.3 v1.2 v1.2.3.4 v01.2.3 v1.2.3+build v1.2.3-01 v2.0.0 "v1.2.3 "; do
  refuses "want one like v1.2.3" "$malformed"
done
refuses usage
touch new-file
refuses "uncommitted changes" "$version"
rm new-file
refuses "CHANGELOG.md has no section" v0.99.99

printf '\n## [%s] - 2026-01-02\n' "${version#v}" >>CHANGELOG.md
git add CHANGELOG.md
git commit -qm "Describe the release"
head=$(git rev-parse HEAD)
scripts/release.sh "$version"

[ "$(git rev-parse HEAD)" = "$head" ] || fail "the release moved HEAD"
[ -z "$(git status --porcelain)" ] || fail "the release changed the work tree"
while read -r dir; do
  tag=${dir#"$PWD"}/$version
  tag=${tag#/}
  [ "$(git rev-parse "$tag^{commit}")" = "$(git rev-parse "$version^{commit}")" ] || fail "$tag is not on the commit of $version"
  [ "$(git rev-parse "$tag~")" = "$head" ] || fail "$tag is not one commit after HEAD"
done < <(go list -m -f '{{.Dir}}')
if git grep -nE '^replace|=>' "$version" -- '*go.mod'; then
  fail "a released go.mod has a replace"
fi
refuses "a released version never changes" --dry-run "$version"
echo "release.sh works"
