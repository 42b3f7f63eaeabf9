# A small package set of this project's own that behaves as nixpkgs does where the builder in nix/ touches it: what is a
# function of what, which override reaches what, and what is refused. Its compiler, Python and libraries are the host's.
#
# inputs.json beside this file names what a real build is given: { python, patchelf, site, source, sha256 }. Without it everything
# evaluates and nothing of Python can be built.
{
  system ? builtins.currentSystem,
  config ? { },
  overlays ? [ ],
}:
let
  lib = import ./lib.nix;
  inputs =
    if builtins.pathExists ./inputs.json then builtins.fromJSON (builtins.readFile ./inputs.json) else null;

  base =
    final:
    let
      callPackage = lib.callPackageWith (final // { pkgs = final; });
      cuda =
        version:
        import ./cuda.nix {
          inherit lib config version;
          inherit (final) stdenv gcc13Stdenv gcc14Stdenv;
        };
      python =
        version:
        import ./python.nix {
          inherit lib inputs version;
          pkgs = final;
        };
    in
    {
      inherit lib system callPackage;
      config = {
        allowUnfree = false;
        allowBroken = false;
        cudaSupport = false;
      }
      // config;
      path = ./.;
      pkgs = final;
      extend = overlay: import ./. {
        inherit system config;
        overlays = overlays ++ [ overlay ];
      };
      newScope = extra: lib.callPackageWith (final // { pkgs = final; } // extra);

      stdenv = import ./stdenv.nix { inherit lib system inputs; inherit (final) config; cc = "host"; };
      gcc13Stdenv = import ./stdenv.nix { inherit lib system inputs; inherit (final) config; cc = "gcc13"; };
      gcc14Stdenv = import ./stdenv.nix { inherit lib system inputs; inherit (final) config; cc = "gcc14"; };
      runCommand =
        name: attrs: command:
        final.stdenv.mkDerivation ({ inherit name; buildCommand = command; } // attrs);

      cudaPackages_12_8 = cuda "12.8";
      cudaPackages_12_9 = cuda "12.9";
      cudaPackages_13_0 = cuda "13.0";
      cudaPackages = final.cudaPackages_12_8 // { isDefault = true; };
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
      python312 = python "3.12";
      python313 = python "3.13";
      python312Packages = final.python312.pkgs;
      python313Packages = final.python313.pkgs;
      python3 = final.python313;
      python3Packages = final.python3.pkgs;
    };
in
lib.applyOverlays base overlays
