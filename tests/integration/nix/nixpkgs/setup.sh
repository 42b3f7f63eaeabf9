# shellcheck shell=bash
# The build environment and the phases, in nixpkgs' words. Tools are the host's: the builds run without a sandbox.
set -euo pipefail
PATH=/usr/bin:/bin
# NIX_CFLAGS_COMPILE_BEFORE is exported by none but the package: as a structured attribute outside `env` it is not seen.
export HOME=$PWD NIX_LDFLAGS="${NIX_LDFLAGS:-}" NIX_CFLAGS_COMPILE="${NIX_CFLAGS_COMPILE:-}" PYTHONPATH= PYTHONDONTWRITEBYTECODE=1
[ "${NIX_BUILD_CORES:-0}" -gt 0 ] || NIX_BUILD_CORES=$(nproc)
export NIX_BUILD_CORES

# The compiler wrapper, under the names that builds call it by; `crossPrefix` makes it another platform's.
mkdir -p "$PWD/.cc"
for name in cc gcc; do printf '#!/bin/bash\ntool=%sgcc . %s "$@"\n' "${crossPrefix:-}" "$ccWrapper" > "$PWD/.cc/$name"; done
for name in c++ g++; do printf '#!/bin/bash\ntool=%sg++ . %s "$@"\n' "${crossPrefix:-}" "$ccWrapper" > "$PWD/.cc/$name"; done
chmod +x "$PWD"/.cc/*
PATH=$PWD/.cc:$PATH
export CC=cc CXX=c++

declare -A seen=()
addInput() {
  local input=$1 entry
  [ -z "${seen[$input]:-}" ] || return 0
  seen[$input]=1
  if [ -d "$input/bin" ]; then PATH=$input/bin:$PATH; fi
  if [ -d "$input/include" ]; then NIX_CFLAGS_COMPILE+=" -isystem $input/include"; fi
  if [ -d "$input/lib" ]; then NIX_LDFLAGS+=" -L$input/lib"; fi
  for entry in "$input"/lib/python3*/site-packages; do
    if [ -d "$entry" ]; then
      PYTHONPATH=$entry:$PYTHONPATH
      # What a package of the host keeps its scripts in.
      if [ -d "$entry/bin" ]; then PATH=$entry/bin:$PATH; fi
    fi
  done
  if [ -f "$input/nix-support/propagated-build-inputs" ]; then
    for entry in $(cat "$input/nix-support/propagated-build-inputs"); do addInput "$entry"; done
  fi
}
# Lists: words of a string, or arrays where attributes are structured.
# shellcheck disable=SC2068
for input in ${nativeBuildInputs[@]:-} ${buildInputs[@]:-} ${propagatedBuildInputs[@]:-}; do addInput "$input"; done
PATH=$PWD/.cc:$PATH
export PATH PYTHONPATH

runHook() { eval "${!1:-}"; }

unpackPhase() {
  if [ -d "$src" ]; then cp -r "$src" source; chmod -R u+w source; else mkdir source; tar -xf "$src" -C source --strip-components=1; fi
  cd source
  # shellcheck disable=SC2068
  for patch in ${patches[@]:-}; do patch -p1 < "$patch"; done
}
configurePhase() { runHook preConfigure; runHook postConfigure; }
buildPhase() {
  runHook preBuild
  python -m pip wheel --verbose --no-deps --no-build-isolation --no-index --no-cache-dir -w dist .
  runHook postBuild
}
installPhase() {
  runHook preInstall
  # By folder and not by prefix: a distribution's own Python has other folders below a prefix.
  python -m pip install --quiet --no-deps --no-index --no-compile --ignore-installed --target "$out/$sitePackages" dist/*.whl
  runHook postInstall
}
fixupPhase() {
  runHook preFixup
  # Run paths: what is in the store and needed, as nixpkgs' own fixup leaves them.
  find "$out" -name '*.so' -exec strip -S {} +
  find "$out" -name '*.so' -exec "$patchelf" --shrink-rpath --allowed-rpath-prefixes "$NIX_STORE" {} ';'
  mkdir -p "$out/nix-support"
  echo "${propagatedBuildInputs[*]:-}" > "$out/nix-support/propagated-build-inputs"
  runHook postFixup
}
installCheckPhase() {
  local module
  cd "$HOME"
  addInput "$out"
  # shellcheck disable=SC2068
  for module in ${pythonImportsCheck[@]:-}; do
    echo "importing $module"
    PYTHONPATH=$PYTHONPATH python -c "import $module"
  done
}
genericBuild() {
  local phase
  if [ "${format:-}" = wheel ]; then
    mkdir dist
    cp "$src" dist/"$(unzip -p "$src" '*.dist-info/WHEEL' | sed -n 's/^Tag: /'"$pname-$version"'-/p' | tr -d '\r' | head -n 1)".whl
    installPhase
    fixupPhase
    return
  fi
  for phase in unpackPhase configurePhase buildPhase installPhase fixupPhase installCheckPhase; do
    echo "running $phase"
    $phase
  done
}
