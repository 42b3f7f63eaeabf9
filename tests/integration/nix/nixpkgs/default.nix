# A small package set of this project's own that behaves as nixpkgs does where the builder in nix/ touches it: what is a
# function of what, which override reaches what, and what is refused. Its compiler, Python and libraries are the host's.
#
# `era` is which nixpkgs it behaves as, one of ../eras, and `path` the folder that stands for its root: `pkgs.path`. What
# is in an era is said there. inputs.json beside this file names what a real build is given: { python, patchelf, site,
# source, torch }. Without it everything evaluates and nothing of Python can be built.
{ era, path }:
{
  system ? builtins.currentSystem,
  config ? { },
  overlays ? [ ],
}:
let
  lib = import ./lib.nix;
  inputs =
    if builtins.pathExists ./inputs.json then builtins.fromJSON (builtins.readFile ./inputs.json) else null;
  underscored = builtins.replaceStrings [ "." ] [ "_" ];
  each = names: value: builtins.listToAttrs (map (name: { inherit name; value = value name; }) names);
  newest = major: lib.last (builtins.filter (version: builtins.match "${major}\\..*" version != null) era.toolkits);

  base =
    final:
    let
      callPackage = lib.callPackageWith (final // { pkgs = final; });
      cuda =
        version:
        import ./cuda.nix {
          inherit lib config version era;
          pkgs = final;
          inherit (final) stdenv gcc13Stdenv gcc14Stdenv;
        };
      python =
        version:
        import ./python.nix {
          inherit lib inputs version era;
          pkgs = final;
        };
      stdenvOf = cc: import ./stdenv.nix { inherit lib system inputs cc; inherit (final) config; };
    in
    {
      inherit lib system callPackage path;
      config = {
        allowUnfree = false;
        allowBroken = false;
        cudaSupport = false;
      }
      // config;
      pkgs = final;
      extend = overlay: import ./. { inherit era path; } {
        inherit system config;
        overlays = overlays ++ [ overlay ];
      };
      newScope = extra: lib.callPackageWith (final // { pkgs = final; } // extra);

      stdenv = stdenvOf "host";
      gcc13Stdenv = stdenvOf "gcc13";
      gcc14Stdenv = stdenvOf "gcc14";
      runCommand =
        name: attrs: command:
        final.stdenv.mkDerivation ({ inherit name; buildCommand = command; } // attrs);
      # By the hash of the file; its bytes are those of inputs.json, for there is no network in a build.
      fetchurl =
        { url, sha256, name }:
        final.stdenv.mkDerivation {
          inherit name url;
          outputHash = sha256;
          outputHashAlgo = "sha256";
          outputHashMode = "flat";
          given = if inputs == null then "" else inputs.source;
          buildCommand = ''cp "$given" $out'';
        };

      magma = callPackage (
        { stdenv, cudaPackages, config }:
        stdenv.mkDerivation {
          pname = "magma";
          version = "2.9.0";
          buildCommand = "mkdir $out";
          gencode = if config.cudaSupport then cudaPackages.flags.gencodeString else "";
          passthru = { inherit cudaPackages; };
        }
      ) { };
      libjpeg_turbo = callPackage (import ./host-library.nix "libjpeg-turbo" [ "jpeglib.h" "jconfig.h" "jmorecfg.h" "jerror.h" ] "libjpeg.so") { };
      libpng = callPackage (import ./host-library.nix "libpng" [ "png.h" "pngconf.h" "pnglibconf.h" ] "libpng.so") { };
      libwebp = callPackage (import ./host-library.nix "libwebp" [ "webp/decode.h" "webp/types.h" ] "libwebp.so") { };

      # The host's loader finds what it would look for.
      autoPatchelfHook = final.runCommand "auto-patchelf-hook" { } "mkdir $out";

      pythonPackagesExtensions = [ ];
      python3 = final."python${builtins.replaceStrings [ "." ] [ "" ] era.python}";
      python3Packages = final.python3.pkgs;

      cudaPackages = final.cudaPackages_12;
    }
    // builtins.listToAttrs (
      builtins.concatMap (
        version:
        let
          name = "python${builtins.replaceStrings [ "." ] [ "" ] version}";
        in
        [
          { inherit name; value = python version; }
          { name = "${name}Packages"; value = final.${name}.pkgs; }
        ]
      ) era.pythons
    )
    // each (map (version: "cudaPackages_${underscored version}") era.toolkits) (
      name: cuda (builtins.replaceStrings [ "cudaPackages_" "_" ] [ "" "." ] name)
    )
    // each (map (version: "cudaPackages_${underscored version}") era.removedToolkits) (
      name: throw "CUDA ${builtins.replaceStrings [ "cudaPackages_" "_" ] [ "" "." ] name} has been removed from Nixpkgs, as it is unmaintained upstream and depends on unsupported compilers"
    )
    // each [ "cudaPackages_12" "cudaPackages_13" ] (
      name: final."cudaPackages_${underscored (newest (builtins.substring 13 2 name))}"
    );
in
lib.applyOverlays base overlays
