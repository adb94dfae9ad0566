"""Files that go into images, and where they stand there.

The scripts beside this module run under the image's own Python (3.9 and later) with its standard library only.

::

    /opt/kernel     virtual environment that holds exactly the lock
    /opt/runner     virtual environment of the runner: JupyterLab, or papermill for batch
    /opt/support    packages that the kernel needs and the lock lacks, behind the locked ones on sys.path
    /opt/nb2image   launchers, kernel specifications, configuration, pylock.toml, sbom.cdx.json, a seed of the work
                    folder
    /work           the notebook and the files that came along; the working directory
    /output         where batch images write executed notebooks
"""

from __future__ import annotations

__all__ = ["HOME", "KERNEL", "OUTPUT", "OWN", "RUNNER", "SBOM", "SOURCE", "SUPPORT", "USER", "WORK"]

KERNEL = "/opt/kernel"
RUNNER = "/opt/runner"
SUPPORT = "/opt/support"
OWN = "/opt/nb2image"
SBOM = "/opt/nb2image/sbom.cdx.json"
"""Scanners look for documents by how their names end."""
SOURCE = "/opt/nb2image/source"
"""The notebook and the files that came along once more, to fill a volume that hides the work folder."""
WORK = "/work"
OUTPUT = "/output"
HOME = "/home/notebook"
USER = "1001:0"
"""Numeric, in group 0, which owns what the image may write (OpenShift's arbitrary UIDs run with group 0)."""
