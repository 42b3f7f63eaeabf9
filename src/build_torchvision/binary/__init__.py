"""Read ELF files, fat binaries and machine code. Knows nothing of wheels."""
