# One CUDA package set: the flags that follow from config.cudaCapabilities, the assertions on them, and who uses them.
# Which capability goes with which CUDA is read from nix/matrix.json, where this project keeps what nixpkgs says of it.
{ lib, config, version, era, pkgs, stdenv, gcc13Stdenv, gcc14Stdenv }:
let
  rows = (builtins.fromJSON (builtins.readFile ../../../../nix/matrix.json)).gpus;
  known = builtins.listToAttrs (
    builtins.concatMap (
      row: if row.nixpkgs == null then [ ] else [ { name = row.capability; value = row.nixpkgs; } ]
    ) (builtins.attrValues rows)
  );
  older = a: b: builtins.compareVersions a b < 0;
  tooNew = builtins.filter (capability: older version known.${capability}.first);
  tooOld = builtins.filter (
    capability: known.${capability}.last != null && older known.${capability}.last version
  );
  inherit (stdenv.hostPlatform) system;
  usual = builtins.filter (
    capability: !known.${capability}.jetson && tooNew [ capability ] == [ ] && tooOld [ capability ] == [ ]
  ) (builtins.attrNames known);

  capabilities = if config.cudaCapabilities or [ ] == [ ] then usual else config.cudaCapabilities;
  forward = config.cudaForwardCompat or true;
  recognized = lib.intersectLists (builtins.attrNames known) capabilities;
  unrecognized = lib.subtractLists (builtins.attrNames known) capabilities;
  jetson = builtins.filter (capability: known.${capability}.jetson) recognized;
  # Jetsons before Thor have a distribution of CUDA of their own.
  preThor = builtins.filter (capability: older capability "10.1") jetson;

  number = builtins.replaceStrings [ "." ] [ "" ];
  gencode = kind: capability: "-gencode=arch=compute_${number capability},code=${kind}_${number capability}";

  json = builtins.toJSON;
  failed = builtins.filter (one: !one.holds) [
    {
      message = "Requested unrecognized CUDA capabilities: ${json unrecognized}";
      holds = unrecognized == [ ];
    }
    {
      message = "Requested CUDA capabilities which are too old for CUDA ${version}: ${json (tooOld recognized)}";
      holds = tooOld recognized == [ ];
    }
    {
      message = "Requested CUDA capabilities which are too new for CUDA ${version}: ${json (tooNew recognized)}";
      holds = tooNew recognized == [ ];
    }
    {
      message = "Requested Jetson CUDA capabilities (${json jetson}) require hostPlatform (${system}) to be aarch64-linux";
      holds = jetson == [ ] || system == "aarch64-linux";
    }
    {
      message = "Requested pre-Thor (10.1) Jetson CUDA capabilities (${json preThor}) cannot be specified with other capabilities (${json (lib.subtractLists preThor capabilities)})";
      holds = preThor == [ ] || preThor == capabilities;
    }
    {
      # Of an era to come: sets in which the two differ mix toolkits.
      message = "cudaPackages (${pkgs.cudaPackages.cudaMajorMinorVersion}) and its alias ${alias} (${pkgs.${alias}.cudaMajorMinorVersion}) differ";
      holds =
        !era.aliasesMustAgree
        || version != pkgs.cudaPackages.cudaMajorMinorVersion
        || pkgs.${alias}.cudaMajorMinorVersion == version;
    }
  ];
  alias = "cudaPackages_${builtins.head (builtins.splitVersion version)}";
  # Every package that compiles for a GPU evaluates these.
  checked =
    if failed == [ ] then
      capabilities
    else
      throw "cudaPackages_${builtins.replaceStrings [ "." ] [ "_" ] version}.backendStdenv has failed assertions:${
        builtins.concatStringsSep "" (map (one: "\n- ${one.message}") failed)
      }";

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
  cudaMajorVersion = builtins.head (builtins.splitVersion version);
  # Forward compatibility shows in the gencode and not in the capabilities, which is all that torch looks at.
  flags = {
    cudaCapabilities = checked;
    cudaForwardCompat = forward;
    isJetsonBuild = jetson != [ ];
    gencodeString = builtins.concatStringsSep " " (
      map (gencode "sm") checked ++ lib.optional forward (gencode "compute" (lib.last checked))
    );
  };
  # The newest compiler that this nvcc takes for its host half.
  backendStdenv = if older version "12.8" then gcc13Stdenv else gcc14Stdenv;
  cuda_nvcc = package "cuda_nvcc" { };
  libnvjpeg = package "libnvjpeg" { };
  nccl = package "nccl" { gencode = flags.gencodeString; };
}
