# nixpkgs 26.05: Python packages are functions of their final attributes, torchvision builds with torch's stdenv.
import ../../nixpkgs {
  path = ./.;
  era = {
    torch = "2.11.0";
    torchvision = "0.26.0";
    python = "3.13";
    pythons = [ "3.11" "3.12" "3.13" "3.14" ];
    toolkits = [ "12.6" "12.8" "12.9" "13.0" ];
    removedToolkits = [ "12.0" "12.1" "12.2" "12.3" "12.4" "12.5" ];
    torchCuda = [ "11" "12" "13" ];
    finalAttrs = true;
    structuredAttrs = false;
    aliasesMustAgree = false;
  };
}
