#!/usr/bin/env bash
# Check what `flox build VARIANT` or `nix-build -A VARIANT` left behind: it is there, it is what its name says, and it runs.
#
#   ./test-build.sh VARIANT          checks ./result-VARIANT
#   ./test-build.sh VARIANT PATH     checks PATH, a link to a store path or the store path itself
#
# Exit codes are those of build-torchvision: 0 all held, 1 a proof failed, 2 bad input, 3 an input is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

stop() { # stop CODE ASKED OBSTACLE NEXT
  printf 'test-build: error\nasked:    %s\nobstacle: %s\nnext:     %s\n' "$2" "$3" "$4" >&2
  exit "$1"
}

tool() {
  if command -v build-torchvision >/dev/null; then build-torchvision "$@"; else "$here/bootstrap" build-torchvision "$@"; fi
}

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  stop 2 "test-build.sh $*" "takes a variant's name and, if need be, a path." "Type ./test-build.sh VARIANT [PATH]."
fi
variant=$1
path=${2:-result-$variant}
tool show "$variant" --json >/dev/null # a wrong name ends here, with the nearest right ones

if [ -L "$path" ] && [ ! -e "$path" ]; then
  stop 3 "check $path" "it leads to $(readlink "$path"), which is gone." "Build it again: flox build $variant"
elif [ ! -e "$path" ]; then
  stop 3 "check $path" "it is not there." "Build it: flox build $variant; or name the result: ./test-build.sh $variant PATH"
elif [ ! -d "$path" ]; then
  stop 2 "check $path" "it is a file, and a build leaves a folder." "For a wheel type: build-torchvision verify $path"
fi
store=$(readlink -f "$path")
echo "test-build: $path is $store"

# The Python that the result propagates, and the packages beside it: what a user of the result gets.
roots=()
walk() {
  local root list next
  for root in ${roots[@]+"${roots[@]}"}; do [ "$root" != "$1" ] || return 0; done
  roots+=("$1")
  list=$1/nix-support/propagated-build-inputs
  [ -f "$list" ] || return 0
  for next in $(<"$list"); do walk "$next"; done
}
walk "$store"
python='' packages=''
for root in "${roots[@]}"; do
  for found in "$root"/bin/python3.[0-9]*; do
    if [[ -z $python && -x $found && $found =~ /python3\.[0-9]+$ ]]; then python=$found; fi
  done
  for site in "$root"/lib/python3.*/site-packages; do
    if [ -d "$site" ]; then packages=$packages${packages:+:}$site; fi
  done
done

if [ -z "$python" ]; then
  tool verify "$path" --variant "$variant" --static
  echo "test-build: $variant holds; nothing was run, since the result propagates no Python"
  exit 0
fi
tool verify "$path" --variant "$variant"
cd / # not a folder with a torchvision/ of its own
PYTHONPATH=$packages "$python" -c '
import torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()
assert kept == [1, 2], f"nms kept {kept}, not [1, 2]"
print(f"test-build: torchvision {torchvision.__version__} beside torch {torch.__version__}: nms is right")
' || stop 1 "import torchvision from $store and call nms" "the lines above." "Build it again, or report what they say."
