# nixpkgs 25.11: attributes and no function of the final ones, nothing structured; its torch does not take CUDA 13.
import ../../nixpkgs {
  path = ./.;
  era = {
    torch = "2.9.1";
    torchvision = "0.24.1";
    python = "3.13";
    pythons = [ "3.11" "3.12" "3.13" "3.14" ];
    toolkits = [ "12.6" "12.8" "12.9" "13.0" ];
    removedToolkits = [ "12.0" "12.1" "12.2" "12.3" "12.4" "12.5" ];
    torchCuda = [ "11" "12" ];
    finalAttrs = false;
    structuredAttrs = false;
    aliasesMustAgree = false;
  };
}
