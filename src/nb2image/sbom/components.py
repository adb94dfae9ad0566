"""The parts of a bill of materials that no notebook changes: the packages of an environment, and the base.

Each part is a JSON value, so that the store can keep it: ``components`` as CycloneDX has them, ``requires`` (who
depends on whom, by ``bom-ref``) and ``roots``, from which everything else of the part is reached.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseAcknowledgement, LicenseExpression
from cyclonedx.schema.schema import SchemaVersion1Dot6
from cyclonedx.spdx import fixup_id
from packageurl import PackageURL
from packaging.pylock import PackageSdist

from nb2image.bases.model import Base
from nb2image.bases.packages import Contents, Distribution, PythonPackage, SystemPackage
from nb2image.environment import Wheel
from nb2image.lock.model import STRONG_HASHES
from nb2image.sbom.wheels import About
from nb2image.target.model import Target

__all__ = ["ADDED", "ENVIRONMENT", "base_part", "wheels_part"]

ENVIRONMENT = "nb2image:environment"
"""The property that says which environment a package is in: the folder of a virtual environment, or ``/``."""

ADDED = "nb2image:added"
"""The property of packages that the base does not have itself: why they were added."""
_DEPENDED = "depended on"


def wheels_part(
    prefix: str,
    wheels: Iterable[Wheel],
    facts: Mapping[str, About],
    requires: Mapping[str, Collection[str]],
    built: Mapping[str, PackageSdist],
) -> dict[str, Any]:
    """The packages of the environment at ``prefix``; ``facts`` by file name, ``requires`` and ``built`` (what
    wheels were built from) by package name."""
    place = prefix.rpartition("/")[2]
    refs: dict[str, str] = {}
    components = []
    for wheel in wheels:
        purl = PackageURL("pypi", None, wheel.name, wheel.version)
        refs[wheel.name] = f"{place}:{purl}"
        components.append(
            Component(
                type=ComponentType.LIBRARY,
                name=wheel.name,
                version=wheel.version,
                bom_ref=refs[wheel.name],
                purl=purl,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.digest.partition(":")[2])],
                licenses=_licenses(facts[wheel.filename]),
                pedigree=_pedigree(purl, built.get(wheel.name)),
                properties=_properties({ENVIRONMENT: prefix, "nb2image:wheel": wheel.filename}),
            )
        )
    edges = {refs[name]: sorted(refs[each] for each in needed) for name, needed in requires.items()}
    return _part(components, edges)


def _pedigree(purl: PackageURL, sdist: PackageSdist | None) -> Pedigree | None:
    """The source distribution that a wheel was built from: the lock holds its hash, and nobody else has the wheel's."""
    if sdist is None:
        return None
    source = PackageURL(purl.type, None, purl.name, purl.version, {"file_name": sdist.filename})
    hashes = [
        HashType(alg=HashAlgorithm(f"SHA-{name.removeprefix('sha')}"), content=sdist.hashes[name])
        for name in STRONG_HASHES
        if name in sdist.hashes
    ]
    kind = ComponentType.LIBRARY
    ancestor = Component(type=kind, name=purl.name, version=purl.version, purl=source, hashes=hashes)
    return Pedigree(ancestors=[ancestor])


def _licenses(facts: About) -> list[License]:
    """What METADATA declares: an SPDX identifier where it is one, whatever its case, else as it was written."""
    declared = LicenseAcknowledgement.DECLARED
    if facts.expression is not None and fixup_id(facts.expression) is None:
        return [LicenseExpression(facts.expression, acknowledgement=declared)]
    found: list[License] = []
    for name in [facts.expression] if facts.expression else facts.licenses:
        known = fixup_id(name)
        stated = DisjunctiveLicense(id=known, acknowledgement=declared) if known else None
        found.append(stated or DisjunctiveLicense(name=name, acknowledgement=declared))
    return found


def _properties(values: Mapping[str, str]) -> list[Property]:
    return [Property(name=name, value=value) for name, value in values.items()]


def base_part(base: Base, contents: Contents, added: Mapping[str, str]) -> dict[str, Any]:
    """The base image, its distribution, its Python, its packages and Python packages.

    ``added`` are the packages that are not of the base itself, and why each is wanted: empty for those that only others
    depend on. What is wanted is required by the image and not by its base.
    """
    digest = base.image.digest
    image = Component(
        type=ComponentType.CONTAINER,
        name=base.reference,
        version=digest,
        bom_ref="base",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.partition(":")[2])],
    )
    components = [image]
    distribution = contents.distribution
    if distribution is not None:
        components.append(_distribution(distribution))
    system = {package.key: _system(package, distribution, added.get(package.key)) for package in contents.system}
    refs = {key: str(component.bom_ref.value) for key, component in system.items()}
    edges = {refs[package.key]: [refs[key] for key in package.requires] for package in contents.system}
    components += system.values()
    owner = f"python{base.target.minor}-minimal:{base.target.platform.architecture}"
    components.append(_interpreter(base.target, owner in refs))
    edges["python"] = [refs[owner]] if owner in refs else []
    modules = [_python(module) for module in contents.python]
    edges |= {str(module.bom_ref.value): [] for module in modules}
    components += modules
    part = _part(components, edges)
    new = {refs[key] for key in added}
    asked = sorted(refs[key] for key, wanted in added.items() if wanted)
    own = [ref for ref in part["roots"] if ref not in new]
    part["requires"]["base"] = own + (["distribution"] if distribution else [])
    return {**part, "roots": ["base", *asked, *(ref for ref in part["roots"] if ref in new - set(asked))]}


def _distribution(distribution: Distribution) -> Component:
    return Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=distribution.id,
        version=distribution.version or None,
        bom_ref="distribution",
        description=distribution.title,
    )


def _system(package: SystemPackage, distribution: Distribution | None, why: str | None) -> Component:
    """A package; ``why`` an added one is wanted, None for those of the base."""
    qualifiers = {"arch": package.architecture}
    if distribution is not None and distribution.version:
        qualifiers["distro"] = f"{distribution.id}-{distribution.version}"
    if (package.source, package.source_version) != (package.name, package.version):
        # Debian's advisories name source packages; scanners look for them here.
        own = package.source_version == package.version
        qualifiers["upstream"] = package.source if own else f"{package.source}@{package.source_version}"
    purl = PackageURL("deb", distribution.id if distribution else "debian", package.name, package.version, qualifiers)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=f"{'base' if why is None else 'system'}:{purl}",
        purl=purl,
        properties=_properties({ENVIRONMENT: "/", **({} if why is None else {ADDED: why or _DEPENDED})}),
    )


def _python(package: PythonPackage) -> Component:
    purl = PackageURL("pypi", None, package.name, package.version)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=f"{package.folder}:{purl}",
        purl=purl,
        properties=_properties({ENVIRONMENT: "/", "nb2image:folder": package.folder}),
    )


def _interpreter(target: Target, packaged: bool) -> Component:
    """Without a purl where the distribution's package stands for it: upstream's advisories do not tell what the
    distribution has mended."""
    version = str(target.python)
    return Component(
        type=ComponentType.PLATFORM,
        name="Python",
        version=version,
        bom_ref="python",
        purl=None if packaged else PackageURL("generic", None, "python", version),
        properties=_properties({"nb2image:interpreter": str(target.interpreter)}),
    )


def _part(components: Iterable[Component], edges: Mapping[str, Collection[str]]) -> dict[str, Any]:
    # One by one: a whole `Bom` takes thrice the time, to sort what the document sorts again.
    values = [json.loads(component.as_json(SchemaVersion1Dot6)) for component in components]  # type: ignore[attr-defined]
    requires = {ref: sorted(needed) for ref, needed in sorted(edges.items())}
    return {"components": values, "requires": requires, "roots": list(_roots(requires))}


def _roots(requires: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Whom nobody requires; of a circle that nobody else requires, the first name."""
    needed = {each for refs in requires.values() for each in refs}
    reached: set[str] = set()
    for ref in [*(ref for ref in requires if ref not in needed), *requires]:
        if ref in reached:
            continue
        yield ref
        waiting = [ref]
        while waiting:
            each = waiting.pop()
            if each not in reached:
                reached.add(each)
                waiting += requires[each]
