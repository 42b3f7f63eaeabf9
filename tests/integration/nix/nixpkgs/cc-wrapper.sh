# shellcheck shell=bash
# What nixpkgs' compiler wrapper does: adds NIX_CFLAGS_COMPILE_BEFORE before and NIX_CFLAGS_COMPILE after the arguments of
# every call, takes -march=native out, and adds to a link a run path for each library folder of the store.
flags=()
arguments=()
linking=1
for argument in "$@"; do
  case $argument in
    -m*=native) echo "warning: Skipping impure flag $argument because NIX_ENFORCE_NO_NATIVE is set" >&2; continue ;;
    -c | -E | -S | -M | -MM | -v | --version | -dump* | -print*) linking= ;;
    -L"$NIX_STORE"/*) flags+=("-Wl,-rpath,${argument#-L}") ;;
  esac
  arguments+=("$argument")
done
if [ -n "$linking" ]; then
  # shellcheck disable=SC2086 # a list of words
  for argument in $NIX_LDFLAGS; do
    flags+=("$argument")
    case $argument in -L"$NIX_STORE"/*) flags+=("-Wl,-rpath,${argument#-L}") ;; esac
  done
else
  flags=()
fi
# shellcheck disable=SC2086 # lists of words
exec "/usr/bin/$tool" ${NIX_CFLAGS_COMPILE_BEFORE:-} "${arguments[@]}" $NIX_CFLAGS_COMPILE "${flags[@]}"
