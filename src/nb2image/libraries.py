"""Shared libraries between a plan, its wheels and its base: what will be missing, and what is added for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from packaging.version import Version

from nb2image.bases.model import Base
from nb2image.cache import Store
from nb2image.environment import Wheel, known_wheel
from nb2image.errors import NoCuda
from nb2image.image.model import Layer
from nb2image.plan import Plan
from nb2image.progress import Listener, Note, Silent, Warned, stage
from nb2image.runtime import KERNEL

if TYPE_CHECKING:
    from nb2image.abi.check import Findings
    from nb2image.abi.cuda import CudaLack
    from nb2image.abi.find import Fetch

__all__ = ["beside_rules", "foreseen", "settled"]

_CONFIRMED = ", as the rule for it says"


def settled(
    plan: Plan,
    base: Base,
    wheels: Mapping[str, Sequence[Wheel]],
    store: Store,
    listener: Listener,
    fetch: Fetch,
) -> tuple[Plan, Sequence[Layer], Findings]:
    """The plan with the system packages that are added to its base, their layer if there is one, and the shared
    libraries that neither wheels nor base have even then; each is told of.

    ``wheels`` by the prefix of their environment. Raises what `nb2image.abi.find.missing_libraries` and
    `nb2image.system.add.delivered` raise, and with ``strict`` `MissingLibraries`.
    """
    from nb2image.abi.cuda import without_cuda
    from nb2image.abi.find import missing_libraries
    from nb2image.abi.report import tell

    def lacking(layers: Sequence[Layer]) -> Findings:
        return missing_libraries(base.image.with_layers(layers), wheels, plan.target.minor, store, fetch)

    below: Sequence[Layer] = ()
    found = lacking(below)
    if plan.system is not None or (plan.request.add_missing and found.missing):
        from nb2image.system.add import delivered
        from nb2image.system.missing import needed_of

        needed = needed_of(without_cuda(found), base, store) if plan.request.add_missing else ()
        if plan.system is not None or needed:
            with stage(listener, "system", plan.notebook.name):
                plan, below = delivered(plan, base, needed, store, listener)
            found = lacking(below)
    told = found if plan.request.strict else without_cuda(found)
    besides = hint = ""
    if any(each.certain for each in told.missing):
        from nb2image.system.missing import what_helps

        besides, hint = what_helps(base, store, add_missing=plan.request.add_missing)
    tell(told, base.name, listener, strict=plan.request.strict, besides=besides, hint=hint)
    _tell_cuda(plan, base, found, listener)
    return plan, below, found


def _tell_cuda(plan: Plan, base: Base, found: Findings, listener: Listener) -> None:
    """Say which packages need CUDA that nothing has, going by their files. Raises `NoCuda` when a GPU is asked for."""
    from nb2image.abi.cuda import cuda_lacks

    lacks = cuda_lacks(found)
    if not lacks:
        return
    from nb2image.images import cuda_rules
    from nb2image.target.cuda import Libraries, advice, need_of

    told = "; ".join(f"{each.title} needs {each}{beside_rules(plan, each)}" for each in lacks)
    wanted = [
        Libraries(each.title, Version(each.cuda), Version(each.cudnn) if each.cudnn else None)
        for each in lacks
        if each.cuda
    ]
    rules = cuda_rules()
    hint = advice(need_of(wanted, rules), plan.target.minor, rules) if wanted else "Lock the packages that bring them."
    nothing = f"neither a wheel nor the base {base.name} has it"
    if plan.request.gpu:
        raise NoCuda(f"--gpu asks for CUDA: by its files, {told}, and {nothing}.", hint=hint)
    known = all(beside_rules(plan, each) == _CONFIRMED for each in lacks)
    if any(each.certain for each in lacks) and not known:
        listener(Warned(f"By its files, {told}, and {nothing}: parts of it will fail, or all of it.", hint))
    else:
        # What the rules know was said before anything was downloaded.
        listener(Note(f"By its files, {told}, and {nothing}."))


def beside_rules(plan: Plan, lack: CudaLack) -> str:
    """A phrase on whether the rules for a package say the same as its files; empty where there is none for it."""
    ruled = next((each for each in plan.match.cuda.libraries if each.package.split()[0] == lack.package), None)
    if ruled is None or not lack.cuda:
        return ""
    same = ruled.cuda.major == Version(lack.cuda).major
    return _CONFIRMED if same else f", although the rule for it says CUDA {ruled.cuda}"


def foreseen(plan: Plan, store: Store) -> Findings | None:
    """What the locked wheels of a plan will not find on its base as it is, before anything is downloaded.

    None where the base is not here, or some wheel's shared objects were never read: only its bytes tell its needs.
    The packages that are the project's own bring what they need.
    """
    from nb2image.abi.find import known_missing

    if plan.sources or not plan.match.candidate.cached:
        return None
    wheels = [wheel for each in plan.kernel if (wheel := known_wheel(each, store)) is not None]
    if len(wheels) < len(plan.kernel):
        return None
    base = plan.provider.deliver(plan.match.candidate, Silent())
    return known_missing(base.image, {KERNEL: wheels}, plan.target.minor, store)
