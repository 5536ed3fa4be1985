"""The version of a star table's rule: what decides which rows it has.

That is its declaration, and the code of its function with all that this refers to in its own package. Comments,
formatting and docstrings do not count, nor do the versions of libraries.
"""

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from etl_assets.schema.columns import earlier_name, enum_values, missing_value
from etl_assets.schema.table import Catalog, Table
from etl_assets.transformation.star_table import StarTable


def code_version(star: StarTable) -> str:
    """Return the version of a star table: sixteen hexadecimal digits, the same wherever the code is the same."""
    columns = [(each.name, str(each.type), each.nullable, enum_values(each)) for each in star.columns]
    mappings = (sorted(star.foreign_keys.items()), sorted(star.derived_from.items()))
    stored_beside = () if star.versions is star else (star.versions.name,)
    declaration = (columns, star.primary_key, star.record_id, mappings, star.dropped, *stored_beside)
    function = star.transform
    [root] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(root, ast.FunctionDef)
    root.decorator_list = []  # the declaration
    code = {"": _normalized(root)}
    _collect(root, sys.modules[function.__module__], code)
    return _digest((declaration, sorted(code.items())))


def rule_versions(catalog: Catalog[StarTable]) -> dict[str, str]:
    """Return by star table the version of all that decides which rows it has, given the captured files.

    That is, besides its code version, how its source tables are declared, and the rules of the star tables that it is
    made from.
    """
    versions: dict[str, str] = {}

    def version_of(name: str) -> str:
        table = catalog[name]
        if not isinstance(table, StarTable):
            return _source_version(table)
        if name not in versions:
            inputs = [(each, version_of(each)) for each in table.inputs(catalog.stars)]
            versions[name] = _digest((code_version(table), inputs))
        return versions[name]

    return {star.name: version_of(star.name) for star in catalog.stars}


def _source_version(table: Table) -> str:
    """Return the version of how captured rows of a table are read."""
    columns = [
        (each.name, str(each.type), each.nullable, enum_values(each), earlier_name(each), str(missing_value(each)))
        for each in table.columns
    ]
    return _digest((table.name, columns, table.primary_key))


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Import:
    """What a name stands for that a module imports: `name` of a module, or the module itself if that is None."""

    module: str
    name: str | None


def _collect(node: ast.AST, module: ModuleType, code: dict[str, str]) -> None:
    """Add the code of what a node of a module refers to, by qualified name."""
    _, imports = _names(module)
    for name, attribute in _references(node):
        defined_in, wanted = _resolve(imports[name], attribute) if name in imports else (module.__name__, name)
        key = f"{defined_in}.{wanted}"
        if _package(defined_in) != _package(module.__name__):
            code[key] = ""
        elif key not in code and wanted in (definitions := _names(sys.modules[defined_in])[0]):
            code[key] = _normalized(definitions[wanted])
            _collect(definitions[wanted], sys.modules[defined_in], code)


def _resolve(imported: _Import, attribute: str) -> tuple[str, str]:
    """Return the module and the name in it that an imported name stands for, if this attribute is taken of it."""
    if imported.name is None:
        return imported.module, attribute
    qualified = f"{imported.module}.{imported.name}"
    return (qualified, attribute) if qualified in sys.modules else (imported.module, imported.name)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _references(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names in a node, each with the attribute that is taken of it, or with nothing."""
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
            yield child.value.id, child.attr
        elif isinstance(child, ast.Name):
            yield child.id, ""


@cache
def _names(module: ModuleType) -> tuple[Mapping[str, ast.stmt], Mapping[str, _Import]]:
    """Return what a module defines at its top, and what it imports, by name."""
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, _Import] = {}
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            definitions[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            definitions |= {target.id: statement for target in targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            imports |= {each.asname or each.name: _Import(statement.module, each.name) for each in statement.names}
        elif isinstance(statement, ast.Import):
            imports |= {each.asname: _Import(each.name, None) for each in statement.names if each.asname}
    return definitions, imports


def _normalized(node: ast.stmt) -> str:
    """Return a statement without docstrings, comments and formatting."""
    copy = ast.parse(ast.unparse(node))
    for child in ast.walk(copy):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(child) is not None:
            child.body = child.body[1:] or [ast.Pass()]
    return ast.dump(copy)
