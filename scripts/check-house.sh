#!/usr/bin/env bash
# Checks the style that CONTRIBUTING.md asks for:
#   - no text uses a word of scripts/words.txt;
#   - no comment line is wider than 100 columns, a tab counting as four. A line without a space,
#     such as a URL, cannot be wrapped and is left out;
#   - each source file of the core has a test file of the same name, and each test file a source;
#   - each folder of contrib has the name of its package;
#   - no file has the markers of an unfinished merge, and no text two quotes in one line ("> >").
# It prints each place that breaks a rule and one line of summary for each rule, and fails if any
# place was printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

core=redisidem

mapfile -t texts < <(git ls-files -- '*.go' '*.lua' '*.md' '*.pml' '*.sh' '.ci/*' Makefile '*.yml' '*.yaml' '*.html' '*.ts' '*.js' \
  ':!:*/testdata/*' ':!:scripts/words.txt')
((${#texts[@]} > 0)) || { echo "no texts were found" >&2; exit 1; }

found=0

markers=$({ git grep -nE '^(<{7}|>{7}) ' -- .; git grep -nE '> > ?' -- '*.md'; } || true)
count=0
if [[ -n $markers ]]; then
  printf '%s\n' "$markers"
  count=$(wc -l <<<"$markers")
  found=1
fi
echo "markers of merges and torn quotes: $count"

words=$(grep -v '^#' scripts/words.txt | paste -sd '|')
# http.NoBody is a name of the standard library.
# The second pattern finds the words inside names of tests, types and functions.
names='[N]obody|[S]omebody|[A]nybody|[E]verybody|[W]hoever|[T]ells|[T]old'
hits=$({
  grep -noiwE -- "$words" "${texts[@]}"
  grep -noE -- "[A-Za-z0-9_]($names)([A-Z0-9_]|\\b)" "${texts[@]}"
} | grep -v ':NoBody$' || true)
count=0
if [[ -n $hits ]]; then
  printf '%s\n' "$hits"
  count=$(wc -l <<<"$hits")
  found=1
fi
total=$(cat -- "${texts[@]}" | wc -w)
awk -v n="$count" -v t="$total" 'BEGIN { printf "words: %d of scripts/words.txt in %d, %.2f of 10,000\n", n, t, 10000 * n / t }'

mapfile -t commented < <(printf '%s\n' "${texts[@]}" | grep -E '\.(go|lua|sh|pml)$|^\.ci/')
wide=$(awk '
  FNR == 1 { marker = FILENAME ~ /\.(go|pml)$/ ? "^[ \t]*(//|/\\*|\\*)" : FILENAME ~ /\.lua$/ ? "^[ \t]*--" : "^[ \t]*#" }
  $0 ~ marker && $0 !~ /^[ \t]*\/\/(go:|nolint|line )/ {
    line = $0
    gsub(/\t/, "    ", line)
    text = line
    sub(/^[ ]*(\/\/|\/\*|\*|--|#)[ ]*/, "", text)
    if (length(line) > 100 && text ~ / /) printf "%s:%d: %d columns\n", FILENAME, FNR, length(line)
  }' "${commented[@]}")
count=0
if [[ -n $wide ]]; then
  printf '%s\n' "$wide"
  count=$(wc -l <<<"$wide")
  found=1
fi
echo "comment lines over 100 columns: $count"

# Test files that belong to no single source: test environments, examples, fuzz targets and
# benchmarks. A test of the core may also have the name of a file of package protocol, which it
# drives through a whole service.
shared='^(main|env|bubble|export|example(_[a-z_]+)?|fuzz|bench)_test\.go$'
alone=()
for source in "$core"/*.go; do
  name=${source##*/}
  case $name in
    doc.go) ;;
    *_test.go)
      [[ $name =~ $shared || -e ${source%_test.go}.go || -e $core/internal/protocol/${name%_test.go}.go ]] || alone+=("$source has no source file of the same name") ;;
    *)
      [[ -e ${source%.go}_test.go ]] || alone+=("$source has no test file of the same name") ;;
  esac
done
if ((${#alone[@]} > 0)); then
  printf '%s\n' "${alone[@]}"
  found=1
fi
echo "sources and test files of the core without a partner: ${#alone[@]}"

misnamed=$(grep -E '^package ' contrib/*/doc.go | sed -E 's#^contrib/([^/]+)/doc.go:package (.+)$#\1 \2#' | awk '$1 != $2')
count=0
if [[ -n $misnamed ]]; then
  printf 'contrib/%s: folder and package have two names\n' "$misnamed"
  count=$(wc -l <<<"$misnamed")
  found=1
fi
echo "folders of contrib that do not have the name of their package: $count"

exit "$found"
