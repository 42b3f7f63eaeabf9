# shellcheck shell=bash
. "$setup"
if [ -n "${buildCommand:-}" ]; then eval "$buildCommand"; else genericBuild; fi
