# A C library of the host, as a package with its headers in `dev`.
pname: headers: library:
{ stdenv }:
stdenv.mkDerivation {
  inherit pname headers library;
  version = "host";
  outputs = [ "out" "dev" ];
  buildCommand = ''
    mkdir -p $out/lib $dev/include
    for header in $headers; do
      found=$(echo "#include <$header>" | /usr/bin/gcc -include stdio.h -M -E -x c - | tr ' ' '\n' | grep "/$header$" | head -n 1)
      mkdir -p "$(dirname "$dev/include/$header")"
      ln -s "$found" "$dev/include/$header"
    done
    found=$(/usr/bin/gcc -print-file-name=$library)
    ln -s "$found" $out/lib/$library
    soname=$(readelf -d "$found" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
    ln -s "$(dirname "$(readlink -f "$found")")/$soname" $out/lib/$soname
  '';
}
