"""Entry point of batch images: papermill's own command line, with the image's defaults and a clean end.

Cell output goes to stdout and stderr as it comes. SIGTERM and SIGINT interrupt the running cell; whatever happens,
the notebook as far as it got is written. Exit codes: 0 the notebook ran through; 1 a cell failed; 2 wrong usage;
10 no such notebook; 60 the output cannot be written; 138 the kernel died; 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import signal
import sys
import threading
import uuid
import warnings
from types import FrameType
from typing import Any, Dict, List, Optional

from nb2image.runtime import OUTPUT, SOURCE, WORK, prepare

FAILED = 1
USAGE = 2
NO_NOTEBOOK = 10
KERNEL_DIED = 138
"""What papermill itself exits with."""
GRACE = 4.0
"""Seconds that an interrupted cell has before its kernel is killed; engines kill the container 10 s after SIGTERM."""

HELP = """Execute the image's notebook.

    NOTEBOOK_PATH is by default the notebook of this image, OUTPUT_PATH is /output/ and the notebook's name. Either may
    be "-" for stdin and stdout, and contain {parameters}.

    Cell output is printed as it comes. The exit code is 0, or 1 when a cell failed; its traceback is the last thing on
    stderr. On SIGTERM and SIGINT the running cell is interrupted and the notebook is written as far as it got.

    All options are papermill's.
    """

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EISDIR)
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Stopped(Exception):
    """A signal ended the run."""


class Broken(Exception):
    """The run cannot go on, for a reason that no cell's traceback tells; ``reason`` is half a sentence."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Run:
    """What is known of the one execution of this process, for the signal handlers and the last words."""

    def __init__(self) -> None:
        self.client: Any = None
        self.cell: Optional[Dict[str, Any]] = None
        """The cell that runs, or ran last."""
        self.running = False
        self.signal = 0

    def receive(self, number: int, _frame: Optional[FrameType]) -> None:
        """Handle SIGTERM and SIGINT: interrupt the cell, after a while or the second time kill the kernel."""
        first = not self.signal
        self.signal = number
        if self.client is None:
            raise SystemExit(128 + number)
        if first and self.running:
            self._kernel(signal.SIGINT)
            timer = threading.Timer(GRACE, self._kernel, [signal.SIGKILL])
            timer.daemon = True
            timer.start()
        else:
            self._kernel(signal.SIGKILL)

    def _kernel(self, number: int) -> None:
        group = getattr(self.client.km and self.client.km.provisioner, "pgid", None)
        if group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)

    def place(self) -> str:
        """The cell in words: counted as in the notebook that went in, and by its execution count."""
        if self.cell is None:
            return "the first cell"
        if not _original(self.cell):
            return "the cell of the parameters"
        number = 0
        for cell in self.client.nb.cells:
            number += _original(cell)
            if cell is self.cell:
                break
        count = self.cell.get("execution_count")
        return f"cell {number} (In [{count}])" if count else f"cell {number}"

    def save(self) -> str:
        """Write the notebook where papermill did not; returns the place."""
        from papermill.iorw import write_ipynb

        output: str = self.client.nb.metadata.papermill["output_path"]
        if self.client.nb_man.output_path is None:
            write_ipynb(self.client.nb, output)
        return "stdout" if output == "-" else output


def _original(cell: Dict[str, Any]) -> bool:
    """Whether a cell was in the notebook, rather than put in by papermill: parameters, marks of a failure."""
    return not {"injected-parameters", "papermill-error-cell-tag"} & set(cell["metadata"].get("tags", ()))


def connection() -> Dict[str, str]:
    """How the kernel is spoken to. Its sockets stand beside the connection file; without one, in the work folder."""
    file = os.path.join(os.environ["JUPYTER_RUNTIME_DIR"], f"kernel-{uuid.uuid4()}.json")
    return {"transport": prepare.transport(), "connection_file": file}


def _register_engine(run: Run) -> None:
    """Make papermill's default engine one that streams output and can be stopped."""
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.log import logger
    from traitlets.config import Config

    class Manager(AsyncKernelManager):
        async def _async_interrupt_kernel(self) -> None:
            # Shutting down interrupts first, which an idle kernel reports as an error of its own.
            if run.running or not self.shutting_down:
                await super()._async_interrupt_kernel()

    class Client(PapermillNotebookClient):
        def log_output_message(self, output: Any) -> None:
            super().log_output_message(output)
            if not self.log_output and self.stdout_file and "text/plain" in output.get("data", ()):
                print("".join(output.data["text/plain"]), file=self.stdout_file, flush=True)

        def execute_cell(self, cell: Any, cell_index: int, *arguments: Any, **options: Any) -> Any:
            run.cell = cell
            try:
                if not run.signal:
                    run.running = True
                    return super().execute_cell(cell, cell_index, *arguments, **options)
            except DeadKernelError as error:
                if not run.signal:
                    self.nb_man.cell_exception(cell, cell_index=cell_index)
                    raise Broken(KERNEL_DIED, f"the kernel died in {run.place()} (out of memory?)") from error
            except CellTimeoutError as error:
                self.nb_man.cell_exception(cell, cell_index=cell_index)
                raise Broken(FAILED, f"{run.place()} ran longer than {self.timeout} s") from error
            except CellExecutionError:
                if not run.signal:
                    raise
            finally:
                run.running = False
            self.nb_man.cell_exception(cell, cell_index=cell_index)
            raise Stopped

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(
            cls,
            nb_man: Any,
            kernel_name: str,
            start_timeout: int = 60,
            execution_timeout: Optional[int] = None,
            **options: Any,
        ) -> Any:
            del options["input_path"]
            run.client = Client(
                nb_man,
                kernel_name=kernel_name,
                kernel_manager_class=Manager,
                log=logger,
                startup_timeout=start_timeout,
                timeout=execution_timeout,
                config=Config({"KernelManager": connection()}),
                **options,
            )
            return run.client.execute()

    papermill_engines.register(None, Engine)
    papermill_engines.register("nbclient", Engine)


def is_local(path: str) -> bool:
    """Whether a path of papermill's is a plain local one, known before the parameters are put into it."""
    return path != "-" and "://" not in path and "{" not in path


def check_output(path: str) -> None:
    """End with a sentence when the executed notebook could not be written at the end."""
    if not is_local(path):
        return
    if os.path.isdir(path):
        prepare.fail(
            prepare.UNWRITABLE, f"{path} is a folder; name the executed notebook: {path.rstrip('/')}/NAME.ipynb"
        )
    folder = os.path.dirname(os.path.abspath(path))
    file_refuses = os.path.exists(path) and not os.access(path, os.W_OK)
    if file_refuses or not prepare.writable(folder):
        prepare.fail(
            prepare.UNWRITABLE,
            f"{path if file_refuses else folder} is not writable by user {prepare.user()}: mount a folder that is "
            f'(-v "$PWD/out:{OUTPUT}", with -u "$(id -u):0" when it is yours), or name another place after the input.',
        )


def work_folder(notebook: str) -> str:
    """Where the image's notebook expects to run: beside its files, as under Jupyter.

    That is in the work folder, unless a volume hides it that could not be filled.
    """
    root = WORK if os.path.exists(posixpath.join(WORK, notebook)) else SOURCE
    return posixpath.dirname(posixpath.join(root, notebook))


def defaults(chosen: Dict[str, Any], notebook: str) -> None:
    """Complete papermill's options, which hold None or "" where nothing was said."""
    source = posixpath.join(SOURCE, notebook)
    chosen["notebook_path"] = chosen["notebook_path"] or source
    name = "notebook.ipynb" if chosen["notebook_path"] == "-" else posixpath.basename(chosen["notebook_path"])
    chosen["output_path"] = chosen["output_path"] or posixpath.join(OUTPUT, name)
    if not chosen["kernel"]:
        chosen["kernel"] = "python3"
        chosen["language"] = chosen["language"] or "python"
    chosen["cwd"] = chosen["cwd"] or work_folder(notebook)
    # Output is streamed, and a bar on the same terminal would cut it to pieces.
    chosen["progress_bar"] = bool(chosen["progress_bar"])
    if not (chosen["log_output"] or chosen["stdout_file"] or chosen["stderr_file"]):
        chosen["stdout_file"] = sys.stderr if chosen["output_path"] == "-" else sys.stdout
        chosen["stderr_file"] = sys.stderr


def check_kernel(name: str) -> None:
    """End with a sentence when the container has no kernel of this name."""
    from jupyter_client.kernelspec import KernelSpecManager

    known = KernelSpecManager(ensure_native_kernel=False).find_kernel_specs()
    if name.lower() not in known:
        prepare.fail(USAGE, f"there is no kernel {name}; this image has {', '.join(sorted(known))}.")


def _command() -> Any:
    """papermill's command with both paths optional and a help text for the image."""
    from papermill.cli import papermill

    for parameter in papermill.params:
        if parameter.name in ("notebook_path", "output_path"):
            parameter.required = False
            parameter.default = ""
    papermill.help = HELP
    return papermill


def _report(lines: List[str], text: str) -> None:
    """A traceback and, last, the sentence that sums it up."""
    shown = "\n".join(lines)
    if not sys.stderr.isatty():
        shown = _COLOURS.sub("", shown)
    sys.stdout.flush()
    if shown:
        print(shown, file=sys.stderr)
    prepare.say(text)


def _execute(run: Run, notebook: str, arguments: List[str]) -> int:
    import click
    from nbformat.reader import NotJSONError
    from papermill.exceptions import PapermillExecutionError

    warnings.filterwarnings("ignore", "the file is not specified with any extension")  # papermill on "-"
    command = _command()
    _register_engine(run)
    try:
        with command.make_context("IMAGE", arguments) as context:
            defaults(context.params, notebook)
            source = context.params["notebook_path"]
            if is_local(source) and not os.path.isfile(source):
                prepare.fail(NO_NOTEBOOK, f"there is no notebook {source} in the container; mount it, or leave it out.")
            if not context.params["help_notebook"]:
                check_kernel(context.params["kernel"])
                check_output(context.params["output_path"])
            command.invoke(context)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.ClickException as error:
        error.show()
        return int(error.exit_code)
    except PapermillExecutionError as error:
        _report(error.traceback, f"{run.place()} failed: {error.ename}: {error.evalue}".rstrip(": "))
        return FAILED
    except NotJSONError:
        prepare.fail(NO_NOTEBOOK, f"{context.params['notebook_path']} is no notebook: it is not JSON.")
    except Broken as error:
        _report([], f"{error.reason}; the notebook so far is in {run.save()}.")
        return error.code
    except Exception:
        # Whatever breaks after a signal breaks because of it: a kernel killed while it started, most of all.
        if not run.signal or run.client is None:
            raise
        name = signal.Signals(run.signal).name
        _report([], f"stopped by {name} in {run.place()}; the notebook so far is in {run.save()}.")
        return 128 + run.signal
    return 0


def main(notebook: str, arguments: List[str]) -> int:
    """Execute; ``notebook`` is the image's own, relative to the work folder. Returns the exit code."""
    prepare.early_signals()
    scratch = prepare.environment()
    # Whoever's home this is: an execution must not depend on start-up files in it.
    os.environ["IPYTHONDIR"] = os.path.join(scratch, "ipython")
    os.environ["MPLCONFIGDIR"] = os.path.join(scratch, "matplotlib")
    prepare.seed()
    run = Run()
    signal.signal(signal.SIGTERM, run.receive)
    signal.signal(signal.SIGINT, run.receive)
    try:
        return _execute(run, notebook, arguments)
    except Exception as error:
        if "DEBUG" in arguments:
            raise
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            prepare.fail(prepare.UNWRITABLE, f"{error.filename or 'the output'} cannot be written: {error.strerror}.")
        prepare.fail(FAILED, f"{type(error).__name__}: {error} (--log-level DEBUG shows where).")
