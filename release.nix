# Hydra's jobs, one a variant that can be built: a farm's builders of each platform take them from here. `requireIsa`
# sends torch and torchvision to a builder whose system features say that its CPU runs the variant: gccarch-x86-64-v4 and
# its like, and avx512vnni, avx512bf16 and fp16 for what a level does not say.
{
  nixpkgs ? <nixpkgs>,
  release ? null,
  overlays ? [ ],
  requireIsa ? false,
}:
let
  variants = import ./default.nix {
    inherit
      nixpkgs
      release
      overlays
      requireIsa
      ;
  };
  names = builtins.filter (name: name != "all" && !variants.${name}.meta.broken) (builtins.attrNames variants);
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value = variants.${name};
  }) names
)
