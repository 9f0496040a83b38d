#!/usr/bin/env bash
# Install each example into an environment of its own, on top of the one that has stzoo, and run its tests.
# Usage: examples/check.sh PYTHON   (of an environment with stzoo)
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
python="${1:-python}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for example in "$here"/stzoo-*/; do
  name="$(basename "$example")"
  "$python" -m venv "$work/$name"
  # What stzoo's environment has is seen from this one; what the example needs otherwise goes into this one.
  "$python" -c "import pathlib, sysconfig, stzoo
print(pathlib.Path(stzoo.__file__).parents[1], sysconfig.get_path('purelib'), sep='\n')" \
    > "$("$work/$name/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/stzoo-environment.pth"
  cp -r "$example" "$work/source-$name" # a build leaves files behind
  "$work/$name/bin/python" -m pip install -q -c "$here/../constraints.txt" "$work/source-$name[test]"
  (cd "$work/source-$name" && "$work/$name/bin/python" -m pytest -q -p no:cacheprovider)
done
