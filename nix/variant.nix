# A variant's name -> its facts, from matrix.json, which `build-torchvision recipes` writes from the tables of facts.
# Throws for a name that is no variant.
{ matrix ? builtins.fromJSON (builtins.readFile ./matrix.json) }:
name:
let
  parts = builtins.match "torchvision-python([0-9]+)-([a-z0-9_]+)(-(sm[0-9]+))?-([a-z0-9_]+)" name;
  part = builtins.elemAt parts;
  python = part 0;
  track = part 1;
  sm = part 3;
  isa = part 4;
  row = matrix.tracks.${track};
  known =
    parts != null
    && matrix.pythons ? ${python}
    && matrix.tracks ? ${track}
    && matrix.isas ? ${isa}
    && (if sm == null then row.cuda == null else row.sms ? ${sm});
  inherit (matrix.isas.${isa}) system;
  rename =
    python: track: "torchvision-python${python}-${track}${if sm == null then "" else "-${sm}"}-${isa}";
  codegen = if sm == null then null else row.sms.${sm};
in
if !known then
  throw "${name} is no variant of the matrix. Next: `build-torchvision variants --all` lists all there are."
else
  {
    inherit name python track sm isa system codegen;
    inherit (row) cuda cudaPackages cudaMajorPackages;
    pythonVersion = matrix.pythons.${python};
    pythonPackages = "python${python}Packages";
    # The compiler's flags for the CPU ISA, and the system features of a builder whose CPU has it.
    inherit (matrix.isas.${isa}) flags features firstCpus;
    gpu = if sm == null then null else matrix.gpus.${sm};
    # Why no nixpkgs can evaluate it, or null where one can.
    broken = if codegen == null then null else codegen.broken.${system} or null;
    # The same variant for the other CUDA versions that compile for its GPU, and for the other Pythons.
    ofOtherTracks =
      if sm == null then
        [ ]
      else
        map (rename python) (
          builtins.filter (other: other != track && matrix.tracks.${other}.sms ? ${sm}) (builtins.attrNames matrix.tracks)
        );
    ofOtherPythons = map (other: rename other track) (
      builtins.filter (other: other != python) (builtins.attrNames matrix.pythons)
    );
    # The companion's names for the PyTorch that belongs to it: some carry torch's series, as pytorch212- does for 2.12.
    pytorch =
      series:
      "pytorch${builtins.replaceStrings [ "." ] [ "" ] (if series == null then "" else series)}-"
      + builtins.substring 12 (builtins.stringLength name) name;
  }
