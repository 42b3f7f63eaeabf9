# shellcheck shell=bash
# With structured attributes they are in a file, as variables of this shell; `env` is the environment.
if [ -n "${NIX_ATTRS_SH_FILE:-}" ]; then
  . "$NIX_ATTRS_SH_FILE"
  for key in "${!outputs[@]}"; do export "$key=${outputs[$key]}"; done
  for key in "${!env[@]}"; do export "$key=${env[$key]}"; done
fi
. "$setup"
if [ -n "${buildCommand:-}" ]; then eval "$buildCommand"; else genericBuild; fi
