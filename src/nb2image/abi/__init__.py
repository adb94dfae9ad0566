"""Shared libraries that an image will lack, found before it is run.

::

    wheels ──elf.read_object──▶ Objects ─┐
    base ────base.provided_by─▶ Provided ┼─check.find_missing─▶ Findings (MissingLibrary, …) ──report──▶ warnings, JSON
    images/libraries.toml ────▶ Rules ───┘

For callers: `find.missing_libraries` answers for a base and the wheels of its environments, and `report` words it;
`base.provided_by` says what any image has (``sonames``, ``find``, ``newest("libstdc++.so.6", "GLIBCXX_")``);
`check.MissingLibrary` is what is asked of whoever maps sonames to packages: ``soname``, and ``certain``, whether
something that is imported needs it.
"""
