"""Image files, LMDB stores, atomic writes and downloads."""
