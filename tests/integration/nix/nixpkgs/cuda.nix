# One CUDA package set: the flags that follow from config.cudaCapabilities, the assertions on them, and who uses them.
# Which capability goes with which CUDA is read from nix/matrix.json, where this project keeps what nixpkgs says of it.
{ lib, config, version, stdenv, gcc13Stdenv, gcc14Stdenv }:
let
  rows = (builtins.fromJSON (builtins.readFile ../../../../nix/matrix.json)).gpus;
  known = builtins.listToAttrs (
    builtins.concatMap (
      row: if row.nixpkgs == null then [ ] else [ { name = row.capability; value = row.nixpkgs; } ]
    ) (builtins.attrValues rows)
  );
  older = a: b: builtins.compareVersions a b < 0;
  supported = builtins.filter (
    capability:
    !older version known.${capability}.first
    && (known.${capability}.last == null || !older known.${capability}.last version)
  ) (builtins.attrNames known);
  usual = builtins.filter (capability: !known.${capability}.jetson) supported;

  capabilities = if config.cudaCapabilities or [ ] == [ ] then usual else config.cudaCapabilities;
  forward = config.cudaForwardCompat or true;
  jetson = builtins.filter (capability: known.${capability}.jetson) (lib.intersectLists supported capabilities);
  unrecognized = lib.subtractLists (builtins.attrNames known) capabilities;
  unsupported = lib.subtractLists supported capabilities;

  number = builtins.replaceStrings [ "." ] [ "" ];
  last = list: builtins.elemAt list (builtins.length list - 1);
  gencode = kind: capability: "-gencode=arch=compute_${number capability},code=${kind}_${number capability}";

  # Every package that compiles for a GPU evaluates these.
  checked =
    if unrecognized != [ ] then
      throw "Unrecognized CUDA capabilities: ${builtins.toJSON unrecognized}"
    else if unsupported != [ ] then
      throw "Unsupported CUDA capabilities: ${builtins.toJSON unsupported}"
    else if jetson != [ ] && stdenv.hostPlatform.system != "aarch64-linux" then
      throw "Jetson CUDA capabilities (${builtins.toJSON jetson}) require hostPlatform (currently ${stdenv.hostPlatform.system}) to be aarch64-linux"
    else if jetson != [ ] && jetson != capabilities then
      throw "Jetson CUDA capabilities (${builtins.toJSON jetson}) cannot be specified with non-Jetson capabilities"
    else
      capabilities;

  package =
    pname: extra:
    stdenv.mkDerivation (
      {
        inherit pname version;
        buildCommand = "mkdir $out";
        meta.unfree = true;
      }
      // extra
    );
in
rec {
  cudaMajorMinorVersion = version;
  # Forward compatibility shows in the gencode and not in the capabilities, which is all that torch looks at.
  flags = {
    cudaCapabilities = checked;
    cudaForwardCompat = forward;
    isJetsonBuild = jetson != [ ];
    gencodeString = builtins.concatStringsSep " " (
      map (gencode "sm") checked ++ lib.optional forward (gencode "compute" (last checked))
    );
  };
  # The newest compiler that this nvcc takes for its host half.
  backendStdenv = if older version "12.8" then gcc13Stdenv else gcc14Stdenv;
  cuda_nvcc = package "cuda_nvcc" { };
  libnvjpeg = package "libnvjpeg" { };
  nccl = package "nccl" { gencode = flags.gencodeString; };
}
