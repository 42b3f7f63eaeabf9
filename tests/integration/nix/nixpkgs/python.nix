# A Python and its packages. A package knows its Python, and the Python its packages, as pythonModule and pkgs.
{ lib, pkgs, inputs, version, era }:
let
  inherit (pkgs) stdenv;
  short = builtins.replaceStrings [ "." ] [ "" ] version;
  sitePackages = "lib/python${version}/site-packages";

  python = stdenv.mkDerivation {
    pname = "python3";
    inherit version;
    interpreter = if inputs == null then "" else inputs.python;
    buildCommand = ''
      mkdir -p $out/bin
      ln -s "$interpreter" $out/bin/python${version}
      ln -s python${version} $out/bin/python
    '';
    passthru = {
      inherit sitePackages withPackages;
      pythonVersion = version;
      libPrefix = "python${version}";
      pkgs = packages;
    };
  };

  withPackages =
    choose:
    stdenv.mkDerivation {
      name = "python3-${version}-env";
      packages = choose packages;
      interpreter = python;
      buildCommand = ''
        mkdir -p $out/bin $out/${sitePackages}
        for package in $packages; do
          for entry in $package/${sitePackages}/*; do ln -sfn $entry $out/${sitePackages}/; done
        done
        printf '#!/bin/bash\nexport PYTHONPATH=%s:$PYTHONPATH\nexec %s "$@"\n' \
          $out/${sitePackages} $interpreter/bin/python${version} > $out/bin/python
        chmod +x $out/bin/python
      '';
    };

  # Called with attributes or, in the newer eras, with a function of the final ones; `override` gives it another stdenv.
  withStdenv = standard: {
    override = { stdenv }: withStdenv stdenv;
    __functor = _: given: standard.mkDerivation (
      final:
      let
        attrs = if builtins.isFunction given then given final else given;
      in
      if builtins.isFunction given && !era.finalAttrs then
        throw "buildPythonPackage: in this era it takes attributes, not a function"
      else
        builtins.removeAttrs attrs [ "dependencies" "build-system" "pyproject" ]
        // {
          name = "python${version}-${attrs.pname}-${attrs.version}";
          format = attrs.format or "setuptools";
          inherit sitePackages;
          isPythonPackage = true;
          nativeBuildInputs = [ python ] ++ attrs.nativeBuildInputs or [ ] ++ attrs.build-system or [ ];
          propagatedBuildInputs = attrs.propagatedBuildInputs or [ ] ++ attrs.dependencies or [ ] ++ [ python ];
          passthru = (attrs.passthru or { }) // {
            pythonModule = python;
            stdenv = standard;
          };
        }
    );
  };
  buildPythonPackage = withStdenv stdenv;

  # What the host's Python environment holds under these names.
  ofHost =
    pname: patterns:
    buildPythonPackage {
      inherit pname patterns;
      version = "host";
      site = if inputs == null then "" else inputs.site;
      buildCommand = ''
        mkdir -p $out/${sitePackages}
        for pattern in $patterns; do
          for entry in $site/$pattern; do
            [ -e "$entry" ] || { echo "there is no $entry" >&2; exit 1; }
            ln -s "$entry" $out/${sitePackages}/
          done
        done
      '';
    };

  base =
    final:
    let
      callPackage = lib.callPackageWith (pkgs // { inherit pkgs; } // final);
    in
    {
      inherit lib pkgs python buildPythonPackage callPackage;
      torch = callPackage ./torch.nix { inherit inputs sitePackages era; };
      torchvision = callPackage ./torchvision.nix { inherit inputs era; };
      pytorch = final.torch;
      numpy = ofHost "numpy" [ "numpy*" ];
      pillow = ofHost "pillow" [ "PIL" "pillow*" ];
      scipy = ofHost "scipy" [ ];
      ninja = ofHost "ninja" [ "ninja*" ];
      setuptools = ofHost "setuptools" [ "setuptools*" "pkg_resources" "_distutils_hack" "wheel*" "packaging*" ];
      auditwheel = ofHost "auditwheel" [ "auditwheel*" ];
      bracex = ofHost "bracex" [ "bracex*" ];
      filelock = ofHost "filelock" [ "filelock*" ];
      lz4 = ofHost "lz4" [ "lz4*" ];
      msgspec = ofHost "msgspec" [ "msgspec*" ];
      packaging = ofHost "packaging" [ "packaging*" ];
      platformdirs = ofHost "platformdirs" [ "platformdirs*" ];
      pyelftools = ofHost "pyelftools" [ "elftools" "pyelftools*" ];
      zstandard = ofHost "zstandard" [ "zstandard*" ];
      fetchPypi =
        { pname, version, hash, ... }:
        stdenv.mkDerivation {
          name = "${pname}-${version}.whl";
          requirement = "${pname}==${version}";
          nativeBuildInputs = [ python ];
          outputHash = hash;
          outputHashMode = "flat";
          buildCommand = ''
            python -m pip download --quiet --no-deps --only-binary :all: -d . "$requirement"
            mv *.whl $out
          '';
        };
    };
  packages = lib.applyOverlays base pkgs.pythonPackagesExtensions;
in
python
