"""
Keep the product's shape: unique class names, constructor wiring, small folders, docstrings, one logger name.

Each rule takes parsed modules or paths and returns its violations as ``path:line: message``. Each rule is
tested with a planted violation and with the product itself.
"""

import ast
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.repository import ROOT

PRODUCT = ("controller", "webhook", "counterfoil")
MAXIMUM_MODULES = 15
"""Maximum number of modules in a folder, without its ``__init__.py``."""
MAXIMUM_ENTRIES = 20
"""Maximum number of files and folders at the top level of the repository, hidden ones included."""


WALL_CLOCK_FIELDS = {
    "counterfoil/esaw_check/probes.py": {"now"},
    "controller/outgoing_webhook/delivery.py": {"next_attempt"},
    "controller/mails/delivery.py": {"at", "claims"},
    "controller/mails/notifier.py": {"_counted", "_deliveries", "_passes"},
    # Compared with the end of an event in its status.
    "controller/after_fix/failed_events.py": {"_began"},
    "controller/resync/envelope_search.py": {"start", "end", "_contents"},
    "controller/resync/import_progress.py": {"start", "end"},
    "controller/resync/sweep.py": {"newest", "now"},
    "controller/resync/statistics.py": {"_created", "_archived", "endangered"},
    "controller/scheduling/event_queue.py": {"_called", "_began"},
    "controller/scheduling/workqueue.py": {"_times", "_scheduled"},
    "counterfoil/esaw/rate_limit.py": {"_pause"},
    "counterfoil/kube/server_clock.py": {"_earliest", "_zero"},
    "counterfoil/sealing.py": {"since"},
    "webhook/console/identity/sign_outs.py": {"_times"},
}
"""Private fields, and fields of private classes, with times of the wall clock: they are compared with stored
times, or with those of eSAW or of another service. What measures an age uses ``Clock.monotonic``."""


LOOPS_WITHOUT_TRY = {
    # The callee catches the errors of its object.
    "controller/outgoing_webhook/delivery.py": {"waiting.items()"},
    "controller/mails/notifier.py": {"self.cache.organizations"},
    "controller/namespaces/supervisor.py": {
        "tuple(self._components.items())",  # a state in memory
        "asyncio.as_completed(tasks)",  # the probe fails then
        "components.live.values()",
        "NEEDED_KINDS",  # the caller catches the error of its namespace
    },
    "controller/reconcile/late_files.py": {"queue.due_events(self.clock.monotonic())"},
    "controller/resync/garbage_collector.py": {
        "page",
        "orphaned.items()",
        "self.kube.list_readable(Envelope, labels=labels)",
        "self.reopeners",
    },
    "controller/resync/sweep.py": {
        "listing.listed(sweep.organization.spec.statuses, window)",
        "self._usable(organization, untried)",
    },
    "controller/resync/import_runner.py": {
        "earlier.items()",
        "imported.status.open_windows",
        "listing.listed(statuses, self.search.window)",
    },
    "webhook/console/events/bulk.py": {
        "self.search.each(suited.user, request.wanted)",  # as in suited.py
        "sorted(done)[:self.limits.bulk_organizations]",
    },
    "webhook/http_server/namespaces.py": {"checks"},
    # The parts of one object, or of one question about it.
    "counterfoil/esaw_check/probes.py": {"both", "variants", "('v5', 'v4')"},
    "controller/reconcile/archive_choice.py": {"others.values()"},
    "controller/reconcile/phases/copy.py": {"unaccepted"},
    "controller/reconcile/phases/clean.py": {"event.status.documents", "names"},
    "controller/resync/envelope_search.py": {
        "((window.start, middle), (middle, window.end))",
        "enumerate(ids)",
        "statuses",  # the lists of one Sender
    },
    "webhook/pages/send.py": {"hits"},
    # A question without an answer ends the whole: a person would confirm a plan with too few events.
    "webhook/console/events/suited.py": {"raws"},
    # No objects.
    "controller/access/archive_pool.py": {"self._open_archives.values()"},
    "controller/reconcile/fence.py": {"RETRY_PAUSES_SECONDS"},
    "controller/requests/user_requests.py": {"USER_REQUEST"},
    "controller/watch/kopf_responses.py": {
        "content.iter_chunked(size)",
        "filter(None, lines.split(b'\\n'))",
    },
    "webhook/http_server/handler.py": {"stream"},
    "webhook/receiver/delivery_counter.py": {"queue"},
}
"""Loops of controller and webhook that await or parse outside a ``try``, by their module."""


class Module(NamedTuple):
    """A parsed Python file, with its path relative to the root."""

    path: str
    tree: ast.Module


def modules_of(root: Path) -> list[Module]:
    files = sorted(file for package in PRODUCT for file in (root / package).rglob("*.py"))
    return [
        Module(file.relative_to(root).as_posix(), ast.parse(file.read_text(encoding="utf-8")))
        for file in files
    ]


# -- Rules -----------------------------------------------------------------------------------------


def repeated_class_names(modules: Iterable[Module]) -> list[str]:
    """A class name is used once in the product, so that a name leads to one place."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{module.path}:{node.lineno}")
    return [
        f"{found[0]}: class {name} is also in {', '.join(found[1:])}"
        for name, found in sorted(places.items())
        if len(found) > 1
    ]


def late_assignments(modules: Iterable[Module]) -> list[str]:
    """Wiring modules pass everything to constructors: they assign no attribute of another object."""
    return [
        f"{module.path}:{node.lineno}: {ast.unparse(node)} is assigned after construction"
        for module in modules
        for node in ast.walk(module.tree)
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        )
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr")
    ]


def crowded_folders(paths: Iterable[str]) -> list[str]:
    """A folder holds at most ``MAXIMUM_MODULES`` modules."""
    counts = Counter(
        Path(path).parent.as_posix()
        for path in paths
        if path.endswith(".py") and Path(path).name != "__init__.py"
    )
    return [
        f"{folder}:1: {count} modules; the maximum is {MAXIMUM_MODULES}"
        for folder, count in sorted(counts.items())
        if count > MAXIMUM_MODULES
    ]


def crowded_top_level(paths: Iterable[str]) -> list[str]:
    """The top level has at most ``MAXIMUM_ENTRIES`` entries."""
    count = len({path.partition("/")[0] for path in paths})
    maximum = f"the maximum is {MAXIMUM_ENTRIES} (decision 0056)"
    return [f".:1: {count} entries; {maximum}"] if count > MAXIMUM_ENTRIES else []


def modules_without_docstring(modules: Iterable[Module]) -> list[str]:
    """Each module opens with its contract."""
    return [f"{module.path}:1: no docstring" for module in modules if not ast.get_docstring(module.tree)]


def other_logger_names(modules: Iterable[Module]) -> list[str]:
    """A module's logger is ``_log``."""
    return [
        f"{module.path}:{target.lineno}: {ast.unparse(target)} is a logger; its name is _log"
        for module in modules
        for target, value in _assignments(module.tree)
        if _is_logger(value) and not (isinstance(target, ast.Name) and target.id == "_log")
    ]


def is_wiring(path: str) -> bool:
    """Whether a module builds a process: every ``app.py``, ``controller/__main__.py``, and the module of the
    components of a namespace."""
    return Path(path).name == "app.py" or path in ("controller/__main__.py", BUILD)


def _assignments(tree: ast.Module) -> Iterator[tuple[ast.expr, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield target, node.value
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield node.target, node.value


def _is_logger(value: ast.expr) -> bool:
    if not isinstance(value, ast.Call):
        return False
    called = value.func
    name = (
        called.attr
        if isinstance(called, ast.Attribute)
        else called.id
        if isinstance(called, ast.Name)
        else ""
    )
    return name == "getLogger"


def ages_by_the_wall_clock(modules: Iterable[Module]) -> list[str]:
    """No private field and no field of a private class holds a ``datetime``: an age in memory is measured by
    a clock that is never set."""
    return [
        f"{module.path}:{node.lineno}: {name} holds a time of the wall clock; use Clock.monotonic for an age"
        for module in modules
        for name, node in _private_fields(module.tree)
        if any(isinstance(each, ast.Name) and each.id == "datetime" for each in ast.walk(node.annotation))
        and name not in WALL_CLOCK_FIELDS.get(module.path, set())
    ]


def _private_fields(tree: ast.Module) -> Iterator[tuple[str, ast.AnnAssign]]:
    """Yield the annotated private names, and the annotated fields of private classes."""
    of_private_classes = {
        field
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.startswith("_")
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target).removeprefix("self.")
            if name.startswith("_") or node in of_private_classes:
                yield name, node


def loops_that_end_with_one_object(modules: Iterable[Module]) -> list[str]:
    """A loop that awaits or parses does so inside a ``try``, so that an object costs itself only."""
    return [
        f"{module.path}:{line}: the loop over {over} ends with the first object that fails"
        for module in modules
        if module.path.startswith(("controller/", "webhook/"))
        for line, over, steps in _loops(module.tree)
        if not over.startswith("range(")
        and any(map(_may_fail, steps))
        and over not in LOOPS_WITHOUT_TRY.get(module.path, set())
    ]


def _loops(tree: ast.Module) -> Iterator[tuple[int, str, list[ast.AST]]]:
    """Yield line, iterated expression and steps of each loop and comprehension."""
    for node in ast.walk(tree):
        match node:
            case ast.For() | ast.AsyncFor():
                yield node.lineno, ast.unparse(node.iter), list(node.body)
            case ast.DictComp():
                yield node.lineno, ast.unparse(node.generators[0].iter), [node.key, node.value]
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                yield node.lineno, ast.unparse(node.generators[0].iter), [node.elt]


def _may_fail(step: ast.AST) -> bool:
    """Whether a step awaits or parses outside a ``try`` with handlers and outside ``suppress``."""
    match step:
        case ast.Try(handlers=[_, *_]):
            return any(_may_fail(each) for handler in step.handlers for each in handler.body)
        case ast.With() if any("suppress(" in ast.unparse(item) for item in step.items):
            return False
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            return False
        case ast.Await() | ast.Call(func=ast.Attribute(attr="parse")):
            return True
    return any(_may_fail(each) for each in ast.iter_child_nodes(step))


BUILD = "controller/namespaces/components.py"
"""The module with the function that wires the controller."""


def hidden_subscriptions(modules: Iterable[Module]) -> list[str]:
    """``build`` alone adds handlers to the cache: one place shows in which order who learns of a change."""
    modules = list(modules)
    shown = {id(call) for call in _subscriptions(_build(modules))}
    return [
        f"{module.path}:{call.lineno}: {ast.unparse(call)} is a subscription outside build"
        for module in modules
        for call in _subscriptions(module.tree)
        if id(call) not in shown
    ]


def handlers_without_subscription(modules: Iterable[Module]) -> list[str]:
    """``build`` subscribes each method of the controller that is named after a change."""
    modules = list(modules)
    build = _build(modules)
    classes = {
        ast.unparse(target): ast.unparse(node.value.func)
        for node in ast.walk(build)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
    }
    subscribed = {
        (classes.get(ast.unparse(handler.value)), handler.attr)
        for call in _subscriptions(build)
        for handler in call.args
        if isinstance(handler, ast.Attribute)
    }
    return [
        f"{module.path}:{method.lineno}: build does not subscribe {node.name}.{method.name}"
        for module in modules
        if module.path.startswith("controller/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef)
        and method.name.endswith("_changed")
        and not method.name.startswith("_")
        and (node.name, method.name) not in subscribed
    ]


def _build(modules: Iterable[Module]) -> ast.AST:
    """Return the function that wires the controller; an empty module if there is none."""
    functions = (node for module in modules if module.path == BUILD for node in module.tree.body)
    found = (each for each in functions if isinstance(each, ast.FunctionDef) and each.name == "build")
    return next(found, ast.Module([], []))


def _subscriptions(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "add_handler":
            yield node


_TLS_CONTEXTS = ("create_default_context", "create_ssl_context", "SSLContext", "create_urllib3_context")


def unbounded_tls_contexts(modules: Iterable[Module]) -> list[str]:
    """No context of TLS but by ``without_finite_fields``, and no HTTP client that makes one itself."""
    violations = []
    for module in modules:
        calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
        bounded = {
            id(argument)
            for call in calls
            if _called(call) == "without_finite_fields"
            for argument in call.args
        }
        violations += [
            f"{module.path}:{call.lineno}: wrap it in without_finite_fields; clients come from http_transport"
            for call in calls
            if (_called(call) in _TLS_CONTEXTS and id(call) not in bounded)
            or (_called(call) == "AsyncClient" and "transport" not in {each.arg for each in call.keywords})
        ]
    return violations


_EMPTY = frozenset({"dict", "frozenset", "list", "set", "tuple"})
_DEMANDS = ("check_", "demands_", "is_strict", "must_", "needs_", "requires_", "verif")
_PUBLISHED = frozenset(
    {("counterfoil/resources/organization.py", "complete"), ("counterfoil/resources/routes.py", "required")}
)
"""Fields of the API whose default true is published: a stored object without one has this value. A copy that
is required permits less than another one."""

_PROOF_KEYS = frozenset({"ManifestSigner | None", "PublicKey | None"})


def permissive_defaults(modules: Iterable[Module]) -> list[str]:
    """
    A question to the rest of the process has no default answer, and what is not said permits nothing.

    So a ``Callable`` that returns something has no constant as default, a ``bool`` is not True by default,
    and one that demands something has no default. Nor has a key that a proof is checked or sealed with.
    """
    return [
        f"{module.path}:{default.lineno}: {name} has a default that permits; let each caller give it"
        for module in modules
        for name, annotation, default in _defaults(module.tree)
        if (module.path, name) not in _PUBLISHED
        and _permits(name, _bare(annotation), _given(default), module.tree)
    ]


def _bare(annotation: ast.expr) -> str:
    """Return an annotation without ``Annotated``, and without None if it is a bool or a function."""
    match annotation:
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[inner, *_])):
            return _bare(inner)
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            bare = _bare(left)
            return bare if bare == "bool" or bare.startswith("Callable[") else ast.unparse(annotation)
    return ast.unparse(annotation)


def _given(default: ast.expr) -> ast.expr:
    """Return what ``field(default=...)`` gives."""
    match default:
        case ast.Call(func=ast.Name(id="field") | ast.Attribute(attr="field"), keywords=keywords):
            return next((each.value for each in keywords if each.arg == "default"), default)
    return default


def _defaults(tree: ast.Module) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Yield name, annotation and default of each annotated parameter and field."""
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as default):
                yield name, node.annotation, default
            case ast.arguments():
                by_position = [*node.posonlyargs, *node.args]
                given: list[ast.expr | None] = [None] * (len(by_position) - len(node.defaults))
                defaults = zip(
                    (*by_position, *node.kwonlyargs), (*given, *node.defaults, *node.kw_defaults), strict=True
                )
                for parameter, value in defaults:
                    if parameter.annotation is not None and value is not None:
                        yield parameter.arg, parameter.annotation, value


def _permits(name: str, annotation: str, default: ast.expr, tree: ast.Module) -> bool:
    if annotation == "bool":
        value = default.value if isinstance(default, ast.Constant) else None
        return value is True or (value is False and name.startswith(_DEMANDS))
    if annotation in _PROOF_KEYS:
        return True
    is_question = annotation.startswith("Callable[") and not annotation.endswith(", None]")
    return is_question and _is_constant(default, tree)


def _is_constant(function: ast.expr, tree: ast.Module) -> bool:
    """Whether a function returns the same for all arguments, as far as its text shows."""
    match function:
        case ast.Lambda(body=value):
            return _is_same_value(value)
        case ast.Name(id=name):
            last = [
                node.body[-1]
                for node in tree.body
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
            ]
            return name in _EMPTY or any(
                isinstance(each, ast.Return) and _is_same_value(each.value) for each in last
            )
    return False


def _is_same_value(value: ast.expr | None) -> bool:
    match value:
        case ast.Constant() | ast.Tuple(elts=[]) | ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
    return False


BY_THE_SERVER_CLOCK = ("webhook/receiver/app.py", "webhook/pages/app.py")
"""Wiring of processes that write times into statuses, which the controller compares with its own."""


def machine_clocks(modules: Iterable[Module]) -> list[str]:
    """A process that writes times into statuses gives its parts the API server's clock alone."""
    violations = []
    for module in modules:
        if module.path in BY_THE_SERVER_CLOCK:
            calls = [each for each in ast.walk(module.tree) if isinstance(each, ast.Call)]
            given = {id(arg) for each in calls if _called(each) == "ServerClock" for arg in each.args}
            violations += [
                f"{module.path}:{each.lineno}: process.clock is the machine's; give it to ServerClock alone"
                for each in ast.walk(module.tree)
                if isinstance(each, ast.Attribute)
                and ast.unparse(each) == "process.clock"
                and id(each) not in given
            ]
    return violations


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


# -- The product -----------------------------------------------------------------------------------


def expect_none(violations: list[str]) -> None:
    assert not violations, "\n".join(violations)


@pytest.fixture(scope="module")
def product() -> list[Module]:
    return modules_of(ROOT)


def test_no_class_name_is_used_twice(product: list[Module]) -> None:
    expect_none(repeated_class_names(product))


def test_the_wiring_modules_are_found(product: list[Module]) -> None:
    wiring = {module.path.split("/")[0] for module in product if Path(module.path).name == "app.py"}
    assert wiring == {"controller", "webhook"}


def test_wiring_assigns_no_attribute_of_another_object(product: list[Module]) -> None:
    expect_none(late_assignments(module for module in product if is_wiring(module.path)))


def test_no_folder_holds_too_many_modules(product: list[Module]) -> None:
    expect_none(crowded_folders(module.path for module in product))


def test_every_module_has_a_docstring(product: list[Module]) -> None:
    expect_none(modules_without_docstring(product))


def test_every_logger_has_the_same_name(product: list[Module]) -> None:
    expect_none(other_logger_names(product))


def test_no_age_in_memory_is_measured_by_the_wall_clock(product: list[Module]) -> None:
    expect_none(ages_by_the_wall_clock(product))


def test_each_module_with_a_time_of_the_wall_clock_has_it(product: list[Module]) -> None:
    trees = {module.path: ast.unparse(module.tree) for module in product}
    missing = [
        path
        for path, names in WALL_CLOCK_FIELDS.items()
        if not any(f"{name}: " in trees.get(path, "") for name in names)
    ]
    expect_none(missing)


def test_receiver_and_pages_use_the_clock_of_the_api_server(product: list[Module]) -> None:
    expect_none(machine_clocks(product))


def test_no_subscription_stands_outside_build(product: list[Module]) -> None:
    expect_none(hidden_subscriptions(product))


def test_build_subscribes_each_handler_of_changes(product: list[Module]) -> None:
    expect_none(handlers_without_subscription(product))


def test_no_server_chooses_the_group_of_a_key_exchange(product: list[Module]) -> None:
    expect_none(unbounded_tls_contexts(product))


def test_no_default_permits(product: list[Module]) -> None:
    expect_none(permissive_defaults(product))


def test_each_loop_isolates_its_objects(product: list[Module]) -> None:
    expect_none(loops_that_end_with_one_object(product))


def test_each_loop_without_a_try_is_there(product: list[Module]) -> None:
    found = {
        (module.path, over)
        for module in product
        for _, over, steps in _loops(module.tree)
        if any(map(_may_fail, steps))
    }
    listed = {(path, over) for path, loops in LOOPS_WITHOUT_TRY.items() for over in loops}
    assert listed - found == set()


# -- Planted violations ----------------------------------------------------------------------------


Plant = Callable[[Mapping[str, str]], list[Module]]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Write files, given as path and source, below a folder; return the parsed modules of that folder."""

    def write(sources: Mapping[str, str]) -> list[Module]:
        for path, source in sources.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        return modules_of(tmp_path)

    return write


def test_a_repeated_class_name_is_refused(plant: Plant) -> None:
    source = "class Worker: ...\n"
    modules = plant(
        {"controller/a.py": source, "webhook/b.py": source, "counterfoil/c.py": "class Other: ...\n"}
    )
    assert repeated_class_names(modules) == ["controller/a.py:1: class Worker is also in webhook/b.py:1"]


@pytest.mark.parametrize(
    "statement",
    [
        "heartbeat.listed = gaps.listed",
        "heartbeat.listed: object = gaps.listed",
        "heartbeat.count += 1",
        "first, heartbeat.listed = 1, 2",
        "self.heartbeat.listed = gaps.listed",
        "for heartbeat.listed in range(3): ...",
        "with gaps as heartbeat.listed: ...",
        "setattr(heartbeat, 'listed', gaps.listed)",
    ],
)
def test_a_late_assignment_is_refused(plant: Plant, statement: str) -> None:
    [violation] = late_assignments(plant({"controller/app.py": f"{statement}\n"}))
    assert violation.startswith("controller/app.py:1: ")
    assert violation.endswith(" is assigned after construction")


def test_an_object_may_assign_its_own_attributes(plant: Plant) -> None:
    source = "def __init__(self, cache):\n    self.cache = cache\n    size = cache.size\n"
    modules = plant({"controller/app.py": source})
    assert late_assignments(modules) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("controller/app.py", True),
        ("controller/__main__.py", True),
        (BUILD, True),
        ("webhook/pages/app.py", True),
        ("webhook/receiver/app.py", True),
        ("webhook/pages/handler.py", False),
    ],
)
def test_wiring_is_known_by_its_path(path: str, expected: bool) -> None:
    assert is_wiring(path) is expected


def test_a_crowded_folder_is_refused(plant: Plant) -> None:
    full = {f"controller/watch/m{number}.py": "" for number in range(MAXIMUM_MODULES)}
    modules = plant({**full, "controller/watch/__init__.py": ""})
    assert crowded_folders(module.path for module in modules) == []
    modules = plant({"controller/watch/another.py": ""})
    assert crowded_folders(module.path for module in modules) == [
        "controller/watch:1: 16 modules; the maximum is 15"
    ]


def test_one_entry_too_many_at_the_top_level_is_refused() -> None:
    full = [f"folder{number}/module.py" for number in range(MAXIMUM_ENTRIES)]
    assert crowded_top_level([*full, "folder0/another.py"]) == []
    assert crowded_top_level([*full, "another.toml"]) == [
        ".:1: 21 entries; the maximum is 20 (decision 0056)"
    ]


def test_the_top_level_has_few_entries() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert crowded_top_level(listed.stdout.splitlines()) == []


def test_a_module_without_a_docstring_is_refused(plant: Plant) -> None:
    modules = plant({"controller/a.py": "import os\n", "webhook/b.py": '"""Its contract."""\n'})
    assert modules_without_docstring(modules) == ["controller/a.py:1: no docstring"]


@pytest.mark.parametrize(
    "statement",
    [
        "log = logging.getLogger(__name__)",
        "logger = getLogger(__name__)",
        "logger: logging.Logger = logging.getLogger(__name__)",
        "object.logger = logging.getLogger(__name__)",
        "print(log := logging.getLogger(__name__))",
    ],
)
def test_another_name_of_a_logger_is_refused(plant: Plant, statement: str) -> None:
    [violation] = other_logger_names(plant({"webhook/a.py": f"{statement}\n"}))
    assert violation.endswith(" is a logger; its name is _log")


@pytest.mark.parametrize(
    "statement", ["_log = logging.getLogger(__name__)", "logging.getLogger('kopf').setLevel(30)"]
)
def test_the_one_name_of_a_logger_is_fine(plant: Plant, statement: str) -> None:
    assert other_logger_names(plant({"webhook/a.py": f"{statement}\n"})) == []


@pytest.mark.parametrize(
    "field",
    [
        "class Probe:\n    _probed_at: datetime | None = None\n",
        "class Probe:\n    _probed_at: dict[str, datetime] = {}\n",
        "class Probe:\n    def begin(self):\n        self._probed_at: tuple[datetime, int] | None = None\n",
        "class _Probe:\n    _probed_at: datetime\n    started: float\n",
        "class _Probe:\n    probed_at: datetime\n",
    ],
)
def test_an_age_by_the_wall_clock_is_refused(plant: Plant, field: str) -> None:
    (violation,) = ages_by_the_wall_clock(plant({"controller/resync/probe.py": field}))
    assert violation.endswith("probed_at holds a time of the wall clock; use Clock.monotonic for an age")
    assert (
        ages_by_the_wall_clock(plant({"controller/resync/probe.py": field.replace("datetime", "float")}))
        == []
    )


@pytest.mark.parametrize("path", BY_THE_SERVER_CLOCK)
def test_a_machine_clock_in_the_wiring_is_refused(plant: Plant, path: str) -> None:
    wiring = "def serve(process, kube):\n    clock = {}\n    return Part(clock)\n"
    (violation,) = machine_clocks(plant({path: wiring.format("process.clock")}))
    assert violation.startswith(f"{path}:2: process.clock is the machine's")
    assert machine_clocks(plant({path: wiring.format("ServerClock(process.clock, kube)")})) == []


WIRING = """
def build(cache):
    worker = Worker(cache)
    cache.add_handler(EnvelopeEvent, worker.event_changed)
"""
WORKER = "class Worker:\n    def event_changed(self, before, after): ...\n"


def test_a_subscription_in_build_is_fine(plant: Plant) -> None:
    modules = plant({BUILD: WIRING, "controller/worker.py": WORKER})
    assert hidden_subscriptions(modules) == []
    assert handlers_without_subscription(modules) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "controller/worker.py",
            "class Worker:\n    def __post_init__(self):\n"
            "        self.cache.add_handler(EnvelopeEvent, self.event_changed)\n",
        ),
        (BUILD, f"{WIRING}\ndef _workers(cache):\n    cache.add_handler(Sender, print)\n"),
    ],
)
def test_a_subscription_outside_build_is_refused(plant: Plant, path: str, source: str) -> None:
    (violation,) = hidden_subscriptions(plant({BUILD: WIRING, path: source}))
    assert violation.startswith(f"{path}:")
    assert violation.endswith(" is a subscription outside build")


@pytest.mark.parametrize("name", ["Worker", "Resync"])
def test_a_handler_that_build_does_not_subscribe_is_refused(plant: Plant, name: str) -> None:
    source = f"class {name}:\n    def spec_changed(self, before, after): ...\n"
    modules = plant({BUILD: WIRING, "controller/worker.py": WORKER, "controller/a.py": source})
    assert handlers_without_subscription(modules) == [
        f"controller/a.py:2: build does not subscribe {name}.spec_changed"
    ]


@pytest.mark.parametrize(
    ("loop", "is_refused"),
    [
        ("for each in organizations:\n    await check(each)\n", True),
        ("async for raw in kube.list(Sender):\n    found.append(Sender.parse(raw))\n", True),
        ("found = [Sender.parse(raw) async for raw in kube.list(Sender)]\n", True),
        ("for each in leases:\n    try:\n        await check(each)\n    finally:\n        count()\n", True),
        ("for hit in hits:\n    try:\n        count()\n    except ApiError:\n        await pause()\n", True),
        (
            "for each in events:\n    try:\n        await check(each)\n    except ApiError:\n        pass\n",
            False,
        ),
        ("for each in leases:\n    with suppress(ApiError):\n        await check(each)\n", False),
        ("for each in leases:\n    tasks.create_task(check(each))\n", False),
    ],
)
def test_a_loop_that_ends_with_one_object_is_refused(plant: Plant, loop: str, *, is_refused: bool) -> None:
    function = "async def run():\n" + "".join(f"    {line}\n" for line in loop.splitlines())
    modules = plant({"controller/watch/loop.py": function})
    assert bool(loops_that_end_with_one_object(modules)) is is_refused


@pytest.mark.parametrize(
    ("statement", "is_refused"),
    [
        ("context = ssl.create_default_context()", True),
        ("context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)", True),
        ("http = httpx.AsyncClient(timeout=5)", True),
        ("context = without_finite_fields(ssl.create_default_context())", False),
        ("http = httpx.AsyncClient(verify=without_finite_fields(httpx.create_ssl_context()))", True),
        ("http = httpx.AsyncClient(transport=transport)", False),
    ],
)
def test_a_tls_context_with_unbounded_groups_is_refused(
    plant: Plant, statement: str, *, is_refused: bool
) -> None:
    modules = plant({"webhook/a.py": f"{statement}\n"})
    assert bool(unbounded_tls_contexts(modules)) is is_refused


@pytest.mark.parametrize(
    ("default", "is_refused"),
    [
        ("may_send: Callable[[str, str], bool] = lambda sender, origin: True", True),
        ("owner_of: Callable[[str], str | None] = lambda name: None", True),
        ("archives: Callable[[], Iterable[str]] = tuple", True),
        ("colleagues: Callable[[str], Iterable[str]] = lambda name: ()", True),
        ("claimed: Callable[[str], Mapping[str, str]] = no_claims", True),
        ("is_named: bool = True", True),
        ("needs_token: bool = False", True),
        ("key: PublicKey | None = None", True),
        ("is_named: bool | None = True", True),
        ("is_named: Annotated[bool, 'a comment'] = True", True),
        ("is_named: bool = field(default=True)", True),
        ("verify: bool = False", True),
        ("must_match: bool = False", True),
        ("claimed: Callable[[str], Awaitable[bool]] = permit_all", True),
        ("archives: Callable[[], Iterable[str]] | None = tuple", True),
        ("may_send: Callable[[str, str], bool]", False),
        ("is_own: Callable[[str], bool] = is_own_address", False),
        ("finished: Callable[[str], None] = lambda name: None", False),
        ("can_send: bool = False", False),
    ],
)
def test_a_default_that_permits_is_refused(plant: Plant, default: str, *, is_refused: bool) -> None:
    functions = "def no_claims(folder):\n    return {}\n\nasync def permit_all(folder):\n    return True\n\n"
    functions += "def is_own_address(ip):\n    return ip in OWN\n\n"
    as_field = f"{functions}class Keys:\n    {default}\n"
    as_parameter = f"{functions}def send(name: str, *, {default}): ...\n"
    found = [bool(permissive_defaults(plant({"webhook/a.py": each}))) for each in (as_field, as_parameter)]
    assert found == [is_refused, is_refused]
