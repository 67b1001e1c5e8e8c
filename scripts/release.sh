#!/usr/bin/env bash
# Makes a release: one commit beside the main branch, and a tag for each module.
#
#   scripts/release.sh v1.2.3              tags in this repository, nothing pushed
#   scripts/release.sh --dry-run v1.2.3    the same without leaving a trace
#
# Day to day, each nested go.mod has a "replace" to its siblings' folders. A
# released one must not ("go install module@version" refuses it), so the release
# commit asks for the siblings by version instead.
#
# All the work is done in a clone, under a module cache of its own, and then tried
# as a user would: the go command fetches the tags from the clone, in place of the
# public repository, and builds from them. Only if that works do the commit and
# the tags come into this repository; its work tree and its branches stay as they
# are. Modules are found in go.work.
set -euo pipefail

die() {
  echo "release: $1" >&2
  exit 1
}

dry_run=
if [ "${1:-}" = --dry-run ]; then
  dry_run=yes
  shift
fi
[ $# -eq 1 ] || die "usage: scripts/release.sh [--dry-run] VERSION"
version=$1

# ---- What is asked for makes sense -----------------------------------------

number='(0|[1-9][0-9]*)'
part="($number|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
[[ $version =~ ^v[01]\.$number\.$number(-$part(\.$part)*)?$ ]] ||
  die "version \"$version\": want one like v1.2.3 or v1.2.3-rc.1; from v2 on the module paths must change"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo=$PWD
unset GOWORK
[ -z "$(git status --porcelain)" ] || die "there are uncommitted changes: commit or remove them first"

core=$(GOWORK=off go list -m)
paths=() # module paths, and beside them their folders; "." is the core's
dirs=()
while read -r path dir; do
  paths+=("$path")
  dir=${dir#"$repo"}
  dir=${dir#/}
  dirs+=("${dir:-.}")
done < <(go list -m -f '{{.Path}} {{.Dir}}')

tag_of() { # a module's tag: the version, after the folder if there is one
  if [ "$1" = . ]; then echo "$version"; else echo "$1/$version"; fi
}

for i in "${!paths[@]}"; do
  expected=$core
  [ "${dirs[i]}" = . ] || expected=$core/${dirs[i]}
  [ "${paths[i]}" = "$expected" ] || die "module ${paths[i]} is in folder ${dirs[i]}, where $expected belongs"
  ! git rev-parse -q --verify "refs/tags/$(tag_of "${dirs[i]}")" >/dev/null ||
    die "tag $(tag_of "${dirs[i]}") exists; a released version never changes"
done
if [ -z "$dry_run" ]; then
  plain=${version#v}
  grep -qE "^## \[?v?${plain//./\\.}(\]|[[:space:]]|\$)" CHANGELOG.md || die "CHANGELOG.md has no section for $plain"
fi

# ---- A clone, and a go command that takes it for the public repository -----

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clone=$work/clone
git clone -q --no-tags "$repo" "$clone"
cd "$clone"
git checkout -q --detach "$(git -C "$repo" rev-parse HEAD)"

# What is downloaded already need not be again: a module cache is a proxy, too.
GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
GOFLAGS="$(go env GOFLAGS) -modcacherw"
export GOPROXY GOFLAGS GOWORK=off
export GONOPROXY=$core GONOSUMDB=$core GOMODCACHE=$work/cache
export GIT_CONFIG_COUNT=1
export GIT_CONFIG_KEY_0="url.file://$clone.insteadOf" GIT_CONFIG_VALUE_0="https://$core"
if [ -n "$dry_run" ]; then
  git config commit.gpgSign false
  git config tag.gpgSign false
fi
# Who releases is who works in the repository; a dry run needs nobody.
git config user.name "$(git -C "$repo" config user.name || echo "${dry_run:+nobody}")"
git config user.email "$(git -C "$repo" config user.email || echo "${dry_run:+nobody@localhost}")"

# ---- Pin the siblings, the depended-on before those that depend on them ----

# needs prints the siblings that the module in the current folder requires.
needs() {
  local path
  go mod edit -json | sed -n '/"Require"/,/\]/s/.*"Path": "\(.*\)".*/\1/p' |
    while read -r path; do
      [[ " ${paths[*]} " != *" $path "* ]] || echo "$path"
    done
}

# pin releases the module in the current folder. Its siblings must be tagged, since
# go.sum holds the hashes of what is fetched by these tags.
pin() {
  local path old
  for old in $(go mod edit -json | sed -n '/"Replace"/,/^\t\]/{/"Old"/,/}/s/.*"Path": "\(.*\)".*/\1/p}'); do
    [[ " ${paths[*]} " == *" $old "* ]] || die "$(go list -m) replaces $old, which is not a sibling: its users would get another one"
    go mod edit -dropreplace="$old"
  done
  for path in $(needs); do
    go mod edit -require="$path@$version"
  done
  go mod tidy
}

git commit -q --allow-empty -m "Release $version"
pinned=" "
while [ "$(wc -w <<<"$pinned")" -lt ${#paths[@]} ]; do
  progress=
  for i in "${!paths[@]}"; do
    [[ $pinned != *" ${paths[i]} "* ]] || continue
    for need in $(cd "${dirs[i]}" && needs); do
      [[ $pinned == *" $need "* ]] || continue 2
    done
    echo "pinning ${paths[i]}"
    (cd "${dirs[i]}" && pin)
    git commit -q --amend --no-edit --allow-empty --all
    git tag -m "$core $version" "$(tag_of "${dirs[i]}")"
    pinned+="${paths[i]} "
    progress=yes
  done
  [ -n "$progress" ] || die "the modules of go.work depend on each other in a circle"
done
# A module's hash depends on its own folder only, so all tags can move to the last
# commit, which has everything.
for dir in "${dirs[@]}"; do
  git tag -f -m "$core $version" "$(tag_of "$dir")" >/dev/null
done

# ---- Look at the result, then use it ---------------------------------------

other=$(git diff --name-only HEAD~ | grep -vE '(^|/)go\.(mod|sum)$' || true)
[ -z "$other" ] || die "the release would change more than go.mod and go.sum: $other"
other=$(git diff HEAD~ -- '*go.sum' | grep '^[+]' | grep -vF -e "+$core" -e '+++ ' || true)
[ -z "$other" ] || die "pinning the siblings changed what else is used: $other"
for dir in "${dirs[@]}"; do
  go mod edit -json "$dir/go.mod" | grep -q '"Replace": null' || die "$dir/go.mod still has a replace"
done

# With an empty module cache, from the tags alone. What others wrote has just been
# held against go.sum, so nobody need be asked about it again.
export GOMODCACHE=$work/users-cache GOSUMDB=off
mkdir "$work/user"
cd "$work/user"
go mod init example.com/user 2>/dev/null
for path in "${paths[@]}"; do
  echo "resolving $path@$version"
  go get "$path@$version"
done
for i in "${!paths[@]}"; do
  for command in $(cd "$clone/${dirs[i]}" && go list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./...); do
    echo "go install $command@$version"
    GOBIN=$work/bin go install "$command@$version"
  done
done

# ---- Hand it over ----------------------------------------------------------

tags=()
for dir in "${dirs[@]}"; do
  tags+=("$(tag_of "$dir")")
done
if [ -n "$dry_run" ]; then
  echo "works: ${tags[*]}"
  exit
fi
refs=()
for tag in "${tags[@]}"; do
  refs+=("refs/tags/$tag:refs/tags/$tag")
done
git -C "$repo" fetch -q --no-tags "$clone" "${refs[@]}"
echo "tagged; publish with: git push --atomic origin ${tags[*]}"
