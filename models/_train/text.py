"""Text that ships inside the scikit-learn package, cut up for training."""

import ast
import pathlib
import re

import sklearn

ROOT = pathlib.Path(sklearn.__file__).parent
# Copies of other projects under other licences, and code that is mostly data.
SKIPPED = {"externals", "tests"}


def files(suffix, under=ROOT):
    found = (p for p in under.rglob(f"*{suffix}") if not SKIPPED & set(p.relative_to(ROOT).parts))
    return sorted(found, key=lambda p: p.relative_to(ROOT).as_posix())


def docstrings(path):
    """Yields (name of the top-level class or function, docstring)."""
    tree = ast.parse(path.read_text())
    for top in [tree, *tree.body]:
        inner = [top] if top is tree else ast.walk(top)
        for node in inner:
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                doc = ast.get_docstring(node)
                if doc:
                    yield getattr(top, "name", ""), doc


def plain(text):
    """Drops reStructuredText markup: :class:`~a.b.C` and ``C`` become C."""
    text = re.sub(r":[\w:]+:`~?(?:[^`<]*<)?([^`>]*)>?`", lambda m: m[1].split(".")[-1], text)
    return re.sub(r"`+|\*+|\|", "", text)


def passages(doc):
    """The paragraphs of a numpydoc docstring that are prose, markup removed;
    the description of each parameter is a paragraph too."""
    doc = re.split(r"\n(?:References|See Also|Examples)\n-+\n", doc)[0]
    for paragraph in re.split(r"\n\s*\n|\n(?=[\w, *]+ : )", doc):
        lines = [line.strip() for line in paragraph.splitlines()]
        # Not prose: doctests, directives, underlines, "name : type" headers.
        lines = [
            line for line in lines if not re.match(r"(>>>|\.\.\.|\.\. |[-=~]{3,}|[\w, *]+ : )", line) and " " in line
        ]
        yield plain(" ".join(lines))


def sentences(doc):
    for passage in passages(doc):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", passage):
            if 6 <= words(sentence) <= 60 and sentence[0].isupper():
                yield sentence


def words(passage):
    return len(re.findall(r"[A-Za-z]{2,}", passage))
