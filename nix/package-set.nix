# The package set of a variant: the very nixpkgs of `pkgs` once more, so that its lock holds, with the capabilities and
# the toolkit that torch, torchvision, magma and NCCL then all agree on, and with the flags in torch.
#
# Nothing here depends on more of the variant than what is compiled, so variants that compile the same torch share it.
# `nixpkgs` is another one: a path, or { url, sha256 } of a tarball.
{ pkgs, variant, nixpkgs ? null }:
let
  inherit (variant) codegen;
  pinned =
    if nixpkgs ? sha256 then
      builtins.fetchTarball { inherit (nixpkgs) url sha256; }
    else
      throw "The nixpkgs of ${variant.name} is pinned by address alone (${nixpkgs.url}), which is no pin. Next: give its sha256 too.";
  source =
    if nixpkgs == null then
      pkgs.path
    else if builtins.isAttrs nixpkgs && nixpkgs ? url then
      pinned
    else
      nixpkgs;
  toolkit = final: _: {
    cudaPackages =
      final.${variant.cudaPackages}
        or (throw "This nixpkgs has no ${variant.cudaPackages}. Next: pin one that has it, or choose another track than ${variant.track}.");
  };
  tunedTorch = _: prev: {
    pythonPackagesExtensions = (prev.pythonPackagesExtensions or [ ]) ++ [
      (_: python: {
        torch = python.torch.overrideAttrs (
          old:
          import ./flags.nix variant old
          // {
            passthru = (old.passthru or { }) // {
              gpuArch = if codegen == null then null else codegen.archList;
              cpuISA = variant.isa;
              cudaVersion = variant.cuda;
            };
          }
        );
      })
    ];
  };
in
import source {
  inherit (variant) system;
  config = {
    allowUnfree = true; # CUDA
    cudaSupport = codegen != null;
  }
  // (
    if codegen == null then
      { }
    else
      {
        cudaCapabilities = [ codegen.capability ];
        cudaForwardCompat = codegen.kind == "ptx";
      }
  );
  overlays = [ tunedTorch ] ++ (if codegen == null then [ ] else [ toolkit ]);
}
