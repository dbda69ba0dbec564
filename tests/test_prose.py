"""Docstrings, comments, messages and documents are in the terms of the field; examples run.

`REPLACEMENTS` are words that stood for something else here. They are forbidden where they can
hardly be meant; add a word only if it has no right use.
"""

import ast
import doctest
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REPLACEMENTS = {
    r"pictures?": "image",
    r"nobody|somebody": "the passive, or what it is",
    r"judges?|judged": "measure, discriminate",
    r"anew": "again",
    r"(that|which) ships?|(weights|networks?|models?) that are shipped": "bundled",
    r"left out|leaves? out|leaving out": "skipped, or without",
    r"goes? on (by|with|from|at|without|where)|going on without": "resume, continue",
    r"mends?|mended|mending": "patch, fix",
    r"lacks|lacked": "is missing, has no",
    r"today's": "current",
    r"ours do|ours does|ours is|of ours|theirs do": "the thing by its name",
    r"stretch of steps|a stretch": "chunk",
    r"remed(y|ies)": "fix, command",
    r"(is|are) told": "is an argument, is printed",
    r"takes? (it|them|this) for": "reads as, mistakes for",
}
#: Lines in docstrings, and the form to write instead.
UNCLEAR_LINES = {
    r"^Refuse ": "Raise `UserError` if …, or Check that …",
    r"^ +\w+: (Of|As|How|What|Why|For each) ": "a noun for an argument",
    r"^ +\w*Error: (It is|It has|There is|There are) ": "the subject by its name",
    r"^ +FileNotFoundError: ": "MissingFileError",
    r"\b[Aa]lso (if|where|when)\b": "even if",
    r", too\.$": "as well",
}
#: Names of functions that are participles or end in a preposition.
UNCLEAR_NAME = re.compile(r"_?[a-z]+ed|\w+_of")
#: A function's docstring is an order; these words begin an answer.
NO_ORDERS = ("Whether", "Where", "What", "How", "Which", "Why", "As", "Of")
THIRD_PERSON = re.compile(
    r"(?!(Pass|Process|Compress|Express|Discuss|Address|Access)\b)[A-Z][a-z]+s\b"
)
EXAMPLES = (
    "networks",
    "networks.generators",
    "networks.discriminators",
    "networks.vgg",
    "networks.ema",
    "networks.self_ensemble",
    "losses",
    "losses.adversarial",
    "losses.perceptual",
    "losses.pixel",
    "metrics",
    "metrics.protocols",
    "metrics.psnr_ssim",
    "metrics.reference_results",
    "metrics.scoring",
    "metrics.tables",
    "data.resize",
    "checkpoints.layouts",
    "checkpoints.detect",
    "checkpoints.load",
    "checkpoints.read_write",
    "checkpoints.wrappers",
    "inference.models",
    "inference.upscaler",
)


def python_files() -> list[Path]:
    found = [ROOT / "setup.py"]
    for folder in ("srgan_plugin", "tools", "configs"):
        found += (ROOT / folder).rglob("*.py")
    return [path for path in sorted(found) if ".mim" not in path.parts]


def documents() -> list[Path]:
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    return [path for path in sorted(found) if path.name not in ("CHANGELOG.md", "changelog.md")]


def prose_of_python(path: Path) -> Iterator[tuple[int, str]]:
    """Yield comments and strings; names in code are not prose."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        kind = tokenize.tok_name[token.type]
        if kind in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
            text = re.sub(r"\{[^{}]*\}|`[^`]*`|^ *(>>>|\.\.\.).*$", "", token.string, flags=re.M)
            yield token.start[0], " ".join(text.split())


def prose_of_markdown(path: Path) -> Iterator[tuple[int, str]]:
    in_code = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        in_code ^= line.lstrip().startswith("```")
        if not in_code:
            yield number, re.sub(r"`[^`]*`|\([^ ()]*\)", "", line)


def findings(path: Path, words: dict[str, str]) -> list[str]:
    read = prose_of_markdown if path.suffix == ".md" else prose_of_python
    return [
        f"{path.relative_to(ROOT)}:{number}: {found[0]!r}: write {better}"
        for number, text in read(path)
        for word, better in words.items()
        if (found := re.search(rf"\b({word})\b" if word[-1] != ")" else rf"\b{word}", text))
    ]


def test_code_says_it_in_the_terms_of_the_field() -> None:
    assert [line for path in python_files() for line in findings(path, REPLACEMENTS)] == []


def test_documents_say_it_in_the_terms_of_the_field() -> None:
    assert [line for path in documents() for line in findings(path, REPLACEMENTS)] == []


def test_a_forbidden_word_is_found_in_comments_messages_and_documents(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    code, page = tmp_path / "a.py", tmp_path / "a.md"
    code.write_text('picture = 1  # a picture\nprint(f"nobody {picture}")\n')
    page.write_text("`picture`\n```\na picture\n```\nmade anew\n")
    assert [line.split(":")[1] for line in findings(code, REPLACEMENTS)] == ["1", "2"]
    assert [line.split(":")[1] for line in findings(page, REPLACEMENTS)] == ["5"]


def is_property(node: ast.FunctionDef) -> bool:
    """Return whether a method is read as an attribute, whose name may be an adjective."""
    return any(
        getattr(d, "id", getattr(d, "attr", "")).endswith(("property", "setter"))
        for d in node.decorator_list
    )


def test_a_function_s_docstring_is_an_order() -> None:
    answers = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and not is_property(node):
                first = (ast.get_docstring(node) or "").split(" ")[0]
                if first in NO_ORDERS or THIRD_PERSON.fullmatch(first):
                    answers.append(f"{path.relative_to(ROOT)}:{node.lineno}: {first}")
    assert answers == []


def parameters(node: ast.FunctionDef) -> list[str]:
    """Return the names of the arguments without `self`, `cls`, `*args` and `**kwargs`."""
    found = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return [name for name in found if name not in ("self", "cls")]


def incomplete_docstrings(source: str) -> Iterator[str]:
    """Yield functions with three arguments and no `Args`, or with `Args` and no result.

    Methods of private classes and of subclasses are excepted: their base describes them.
    """
    tree = ast.parse(source)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    excepted = {id(n) for c in classes if c.bases or c.name.startswith("_") for n in c.body}
    public = {id(n) for scope in (tree, *classes) for n in scope.body} - excepted
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or not (text := ast.get_docstring(node)):
            continue
        place = f"line {node.lineno}: {node.name}"
        is_public = id(node) in public and not node.name.startswith("_")
        has_args = re.search(r"^Args:$", text, re.M)
        if is_public and len(parameters(node)) >= 3 and not has_args:
            yield f"{place}: write Args"
        result = ast.unparse(node.returns) if node.returns else "None"
        states_it = re.search(r"^(Returns|Yields):$|\A.*\b([Rr]eturn|[Yy]ield)\b", text, re.M)
        if has_args and result not in ("None", "NoReturn") and not states_it:
            yield f"{place}: write Returns"


def test_docstrings_describe_three_arguments_and_the_result() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {form}"
        for path in python_files()
        for form in incomplete_docstrings(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('def f(a, b, c) -> None:\n    """Do it."""\n', 1),
        ('class A:\n    def f(self, a, b, *, c):\n        """Do it."""\n', 1),
        ('def f(a) -> int:\n    """Count it.\n\n    Args:\n        a: It.\n    """\n', 1),
        ('def f(a) -> int:\n    """Return it.\n\n    Args:\n        a: It.\n    """\n', 0),
        ('def f(a) -> None:\n    """Do it.\n\n    Args:\n        a: It.\n    """\n', 0),
        ('def f(a, b, *c, **d):\n    """Do it."""\n', 0),
        ('class A(Hook):\n    def f(self, a, b, c):\n        """Do it."""\n', 0),
    ],
)
def test_an_incomplete_docstring_is_found(source: str, count: int) -> None:
    assert len(list(incomplete_docstrings(source))) == count


def raises_user_error(node: ast.FunctionDef) -> bool:
    """Return whether a function itself has a `raise UserError(…)` or of a class below it."""
    inner = {n for f in ast.walk(node) if f is not node and is_scope(f) for n in ast.walk(f)}
    raised = [n.exc for n in ast.walk(node) if isinstance(n, ast.Raise) and n not in inner]
    names = {ast.unparse(exc.func) for exc in raised if isinstance(exc, ast.Call)}
    return bool(names & {"UserError", "FileError", "MissingFileError"})


def is_scope(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)


def undocumented_errors(source: str) -> Iterator[str]:
    """Yield public functions that raise a `UserError` which no docstring mentions.

    The arguments of `__init__` are described in the class, and so are their errors.
    """
    scopes: list[tuple[ast.AST, str]] = [(ast.parse(source), "")]
    while scopes:
        scope, described = scopes.pop()
        for node in ast.iter_child_nodes(scope):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                scopes.append((node, ast.get_docstring(node) or ""))
            if isinstance(node, ast.FunctionDef) and raises_user_error(node):
                own = ast.get_docstring(node) or ""
                text = described if node.name == "__init__" else own
                is_public = node.name == "__init__" or not node.name.startswith("_")
                if is_public and "Raises:" not in text and not text.startswith("Raise "):
                    yield f"line {node.lineno}: {node.name}"


def test_public_functions_of_the_package_describe_the_errors_that_they_raise() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {function}"
        for path in python_files()
        if path.is_relative_to(ROOT / "srgan_plugin")
        for function in undocumented_errors(path.read_text("utf-8"))
    ]
    assert found == []


RAISE = "  if a:\n    raise UserError('a')\n"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        (f"def f(a):\n  'Do it.'\n{RAISE}", 1),
        (f"def f(a):\n{RAISE.replace('User', 'MissingFile')}", 1),
        (f"def f(a):\n  'Do it.\\n\\nRaises:\\n  UserError: a.'\n{RAISE}", 0),
        (f"def f(a):\n  'Raise `UserError` if a.'\n{RAISE}", 0),
        (f"def f(a):\n{RAISE.replace('User', 'Value')}", 0),
        (f"def _f(a):\n{RAISE}", 0),
        ("def f(a):\n  def g(a):\n    raise UserError('a')\n  return g\n", 0),
        ("class A:\n  'A.'\n  def __init__(self):\n    raise UserError('a')\n", 1),
        ("class _A:\n  'A.'\n  def __init__(self):\n    raise UserError('a')\n", 0),
        (
            "class A:\n  'A.\\n\\nRaises:\\n  UserError: a.'\n  def __init__(self):\n"
            "    raise UserError('a')\n  def f(self):\n    raise UserError('a')\n",
            1,
        ),
    ],
)
def test_an_undocumented_error_is_found(source: str, count: int) -> None:
    assert len(list(undocumented_errors(source))) == count


def unclear_docstring(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
        text = ast.get_docstring(node) or ""
        for line, better in UNCLEAR_LINES.items():
            for found in re.finditer(line, text, re.M):
                yield f"{getattr(node, 'name', 'module')}: {found[0]!r}: write {better}"


def unclear_code(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) if UNCLEAR_NAME.fullmatch(name) and not is_property(node):
            yield f"line {node.lineno}: {name}: write a verb"
        case ast.Module(body=body) | ast.ClassDef(body=body):
            for line in body:
                match line:
                    case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple()):
                        yield f"line {line.lineno}: write one constant in a line"
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            yield from unpacked_tuples(parts)
        case ast.Call(args=parts):
            yield from unpacked_tuples(parts)


def unpacked_tuples(parts: list[ast.expr]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, ast.Starred) and isinstance(part.value, ast.Tuple):
            yield f"line {part.lineno}: write the elements one by one"


def unclear_forms(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        yield from unclear_docstring(node)
        yield from unclear_code(node)


def test_docstrings_and_constants_are_in_plain_forms() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {form}"
        for path in python_files()
        for form in unclear_forms(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Refuse a file."""\n',
        'def f():\n    """Return x.\n\n    Args:\n        a: Of its file.\n    """\n',
        'class A:\n    """X.\n\n    Raises:\n        UserError: It is damaged.\n    """\n',
        'X = (*("a", "b"), "c")\n',
        'f(*("a", "b"), c=1)\n',
        "def _aligned(): ...\n",
        "def kind_of(x): ...\n",
        "A, B = 1, 2\n",
    ],
)
def test_an_unclear_form_is_found(source: str) -> None:
    assert len(list(unclear_forms(source))) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_reference_run(name: str) -> None:
    module = importlib.import_module(f"srgan_plugin.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", ["networks", "losses", "metrics", "checkpoints", "inference"])
def test_every_public_class_and_function_has_an_example(name: str) -> None:
    package = importlib.import_module(f"srgan_plugin.{name}")
    without = [
        public
        for public in package.__all__
        if callable(value := getattr(package, public)) and ">>>" not in (value.__doc__ or "")
    ]
    assert without == []
