# A nixpkgs to come: releases that no table knows yet, and cudaPackages and its alias must agree.
import ../../nixpkgs {
  path = ./.;
  era = {
    torch = "2.99.0";
    torchvision = "0.99.0";
    python = "3.14";
    pythons = [ "3.12" "3.13" "3.14" "3.15" ];
    toolkits = [ "12.8" "12.9" "13.0" "13.2" "13.4" "13.6" ];
    removedToolkits = [ "12.4" "12.5" "12.6" ];
    torchCuda = [ "12" "13" ];
    finalAttrs = true;
    structuredAttrs = true;
    aliasesMustAgree = true;
  };
}
