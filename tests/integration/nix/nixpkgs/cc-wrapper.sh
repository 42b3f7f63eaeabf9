# shellcheck shell=bash
# What nixpkgs' compiler wrapper does: adds NIX_CFLAGS_COMPILE to every call, and to a link a run path for each library
# folder of the store.
flags=()
linking=1
for argument in "$@"; do
  case $argument in
    -c | -E | -S | -M | -MM | -v | --version | -dump* | -print*) linking= ;;
    -L"$NIX_STORE"/*) flags+=("-Wl,-rpath,${argument#-L}") ;;
  esac
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
# shellcheck disable=SC2086 # a list of words
exec "/usr/bin/$tool" "$@" $NIX_CFLAGS_COMPILE "${flags[@]}"
