# The static proof of a built variant, as a derivation: every instruction decoded, every symbol resolved. Nothing of the
# package is run.
{ pkgs, name, package }:
let
  python = pkgs.python3;
  # Libraries that nixpkgs does not have, or not of this version, as their authors publish them. iced-x86 is published
  # for x86-64 alone: on aarch64, verify the result of a build with the command line.
  wheel =
    args:
    python.pkgs.buildPythonPackage {
      inherit (args) pname version;
      format = "wheel";
      nativeBuildInputs = [ pkgs.autoPatchelfHook ];
      buildInputs = [ pkgs.stdenv.cc.cc.lib ];
      dontCheckRuntimeDeps = true; # what they need is in `environment`
      src = python.pkgs.fetchPypi (args // { format = "wheel"; });
    };
  iced-x86 = wheel {
    pname = "iced_x86";
    version = "1.21.0";
    dist = "cp38";
    python = "cp38";
    abi = "abi3";
    platform = "manylinux_2_17_x86_64.manylinux2014_x86_64";
    hash = "sha256-SJeJN3v8H+QyvSqKV4DJ8+fDW+LmEzsN5UMs2QHK0yw=";
  };
  capstone = wheel {
    pname = "capstone";
    version = "6.0.0a11";
    dist = "cp38";
    python = "cp38";
    abi = "abi3";
    platform = "manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64";
    hash = "sha256-YD5EaoOCcavV2Gxw1AYJ16EoCJDgQyOzwdXisv1fzYg=";
  };
  variantlib = wheel {
    pname = "variantlib";
    version = "0.2.2";
    dist = "py3";
    python = "py3";
    hash = "sha256-rUx1rEv5K2I9f8xV8K8+wTEBLqL/gzYzLQisjviHRas=";
  };
  environment = python.withPackages (ps: [
    ps.auditwheel
    ps.bracex
    ps.filelock
    ps.lz4
    ps.msgspec
    ps.packaging
    ps.platformdirs
    ps.pyelftools
    ps.zstandard
    capstone
    iced-x86
    variantlib
  ]);
  source = builtins.path {
    path = ../src;
    name = "build-torchvision-src";
    filter = path: _: baseNameOf path != "__pycache__";
  };
in
pkgs.runCommand "${name}-verify" { nativeBuildInputs = [ environment ]; } ''
  PYTHONPATH=${source} python -m build_torchvision.verify ${name} ${package} > $out
''
