# What makes a package be compiled for a variant: an argument of overrideAttrs, for torch and torchvision alike.
#
# CPU: nixpkgs' compiler wrapper adds NIX_CFLAGS_COMPILE_BEFORE to every call, before the caller's own flags, so one
# variable reaches C, C++ and the compiler that nvcc calls for its host half, since that is wrapped too. Before and not
# after, which is what NIX_CFLAGS_COMPILE does: gcc goes by the last -march, and a file that asks for an instruction set of
# its own, as those of XNNPACK in torch do, must get it. CFLAGS and CXXFLAGS are no way either: torch's build drops the
# second without a word, and nvcc sees neither. hostPlatform.gcc.arch would reach them all, but it rebuilds the whole
# package set from the C library on, asks every builder for a system feature, and cannot say -mavx512bf16.
#
# GPU: nixpkgs writes TORCH_CUDA_ARCH_LIST from the package set's capabilities, without the PTX that forward
# compatibility promises. So the variant's own list comes last.
variant: old:
let
  flags = builtins.concatStringsSep " " variant.flags;
  there = builtins.toString (old.env.NIX_CFLAGS_COMPILE_BEFORE or old.NIX_CFLAGS_COMPILE_BEFORE or "");
  before = there + (if there == "" then "" else " ") + flags;
  inherit (variant) codegen;
in
{
  preConfigure =
    (old.preConfigure or "")
    + ''

      export MAX_JOBS=$NIX_BUILD_CORES
    ''
    + (
      if codegen == null then
        ""
      else
        ''
          export TORCH_CUDA_ARCH_LIST="${codegen.archList}"
        ''
    );
}
// (
  # A package that sets the variable outside of `env` must not have it inside as well.
  if old ? NIX_CFLAGS_COMPILE_BEFORE then
    { NIX_CFLAGS_COMPILE_BEFORE = before; }
  else
    { env = (old.env or { }) // { NIX_CFLAGS_COMPILE_BEFORE = before; }; }
)
