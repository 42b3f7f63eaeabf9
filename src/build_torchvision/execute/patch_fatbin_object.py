"""Exchange the fat binary of an object that nvcc made (executed as a script).

    python -m build_torchvision.execute.patch_fatbin_object HOST.o NEW.fatbin SPLICED.o

The object refers to its fat binary by the start of section .nv_fatbin, once, from one wrapper (.nvFatBinSegment, the
CUDA runtime's own structure), so that the section may be exchanged for one of another size: objcopy does it.
"""

from __future__ import annotations

import io
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile

from build_torchvision.errors import BuildTorchvisionError
from build_torchvision.process import run

SECTION, WRAPPER = ".nv_fatbin", ".nvFatBinSegment"
FATBIN = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes that follow it
FATBIN_MAGIC, WRAPPER_MAGIC = 0xBA55ED50, 0x466243B1
WRAPPER_SIZE, ALIGNMENT = 24, 8  # bytes


def faults(host: bytes, fatbin: bytes) -> Iterator[str]:
    """What keeps `fatbin` from taking the place of the one in the object `host`; nothing when it fits."""
    if len(fatbin) < FATBIN.size:
        yield f"the new fat binary has {len(fatbin)} bytes"
    else:
        magic, _, header, size = FATBIN.unpack_from(fatbin)
        if magic != FATBIN_MAGIC or header + size > len(fatbin):
            yield f"the new fat binary has magic {magic:#x} and says {header + size} bytes; it has {len(fatbin)}"
    file = ELFFile(io.BytesIO(host))
    sections = list(file.iter_sections())
    found = [section for section in sections if section.name == SECTION]
    wrappers = [section for section in sections if section.name == WRAPPER]
    if len(found) != 1 or len(wrappers) != 1:
        yield f"the object has {len(found)} sections {SECTION} and {len(wrappers)} {WRAPPER}, not one of each"
        return
    if found[0]["sh_addralign"] < ALIGNMENT or wrappers[0]["sh_addralign"] < ALIGNMENT:
        yield f"{SECTION} or {WRAPPER} is aligned to less than {ALIGNMENT} bytes"
    data = wrappers[0].data()
    if len(data) != WRAPPER_SIZE or struct.unpack_from("<I", data)[0] != WRAPPER_MAGIC:
        yield f"{WRAPPER} holds {len(data)} bytes that are not one wrapper"
    index = sections.index(found[0])
    symbols = file.get_section_by_name(".symtab")
    pointing = [
        (section.name.removeprefix(".rela"), relocation["r_offset"], relocation["r_addend"], symbol["st_value"])
        for section in sections
        if section["sh_type"] == "SHT_RELA"
        for relocation in section.iter_relocations()
        if (symbol := symbols.get_symbol(relocation["r_info_sym"]))["st_shndx"] == index
    ]
    if pointing != [(WRAPPER, 8, 0, 0)]:
        yield f"{len(pointing)} references into {SECTION}, where the wrapper's own, to its start, is expected"


def main(host: Path, fatbin: Path, output: Path) -> None:
    """Write `output`, or leave nothing and end with the reason."""
    try:
        if wrong := list(faults(host.read_bytes(), fatbin.read_bytes())):
            sys.exit(f"{host}: {'; '.join(wrong)}")
        with tempfile.TemporaryDirectory(prefix="splice-") as scratch:
            made = Path(scratch, "spliced.o")
            run(
                ["objcopy", f"--update-section={SECTION}={fatbin}", host, made],
                action=f"exchanging the fat binary of {host}",
            )
            output.write_bytes(made.read_bytes())
    except BuildTorchvisionError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
