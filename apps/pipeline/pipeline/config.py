# SPDX-License-Identifier: GPL-3.0-or-later
"""The source configuration: which tables there are, where they come from, how they become silver and gold."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import typing as t

import duckdb
import yaml

from .errors import ConfigError

FORMATS = ("csv", "parquet", "json")
SEVERITIES = ("error", "warn")
SCHEMES = ("file", "s3", "http", "https")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*(\([0-9]+(, ?[0-9]+)?\))?(\[\])?")

# option -> the YAML types that it takes
OPTIONS: dict[str, dict[str, tuple[type, ...]]] = {
    "csv": {
        "delimiter": (str,),
        "header": (bool,),
        "quote": (str,),
        "escape": (str,),
        "comment": (str,),
        "skip": (int,),
        "nullstr": (str, list),
        "types": (dict,),
        "dateformat": (str,),
        "timestampformat": (str,),
        "decimal_separator": (str,),
        "encoding": (str,),
    },
    "json": {"records": (str,), "types": (dict,), "dateformat": (str,), "timestampformat": (str,)},
    "parquet": {},
}

# rule -> (required fields, optional fields)
RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "not_null": (("columns",), ()),
    "unique": ((), ("columns",)),
    "range": (("column",), ("min", "max")),
    "accepted_values": (("column", "values"), ()),
    "row_count": ((), ("min", "max")),
    "expression": (("sql",), ()),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    kind: str
    name: str
    severity: str
    columns: tuple[str, ...] = ()
    minimum: t.Any = None
    maximum: t.Any = None
    values: tuple[t.Any, ...] = ()
    sql: str = ""


@dataclasses.dataclass(frozen=True)
class Gold:
    name: str
    sql: str
    key: tuple[str, ...]
    rules: tuple[Rule, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    name: str
    uri: str
    format: str
    options: dict[str, t.Any]
    key: tuple[str, ...]
    silver_sql: str
    rules: tuple[Rule, ...]
    gold: tuple[Gold, ...]

    @property
    def scheme(self) -> str:
        return self.uri.partition("://")[0]

    @property
    def extension(self) -> str:
        return self.format + (".gz" if self.uri.split("?")[0].endswith(".gz") else "")


@dataclasses.dataclass(frozen=True)
class Config:
    tables: tuple[Table, ...]

    def select(self, names: t.Sequence[str] | None) -> tuple[Table, ...]:
        """The named tables (by source or gold name), or all of them."""
        if not names:
            return self.tables
        chosen: list[Table] = []
        for name in names:
            found = [table for table in self.tables if name == table.name or name in {gold.name for gold in table.gold}]
            if not found:
                known = ", ".join(table.name for table in self.tables)
                raise ConfigError([f"table {name!r} is not configured; configured: {known}"])
            chosen.extend(table for table in found if table not in chosen)
        return tuple(chosen)


def digest(*parts: t.Any) -> str:
    """A stable hash of configuration and inputs: what it names has to be built again only when it changes."""

    def plain(value: t.Any) -> t.Any:
        return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value

    text = json.dumps([plain(part) for part in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class _Checker:
    def __init__(self) -> None:
        self.findings: list[str] = []

    def fail(self, where: str, problem: str) -> None:
        self.findings.append(f"{where}: {problem}")

    def mapping(self, value: t.Any, where: str, required: t.Sequence[str], optional: t.Sequence[str]) -> dict[str, t.Any]:
        if not isinstance(value, dict):
            self.fail(where, f"{value!r} is not accepted; accepted: a mapping with {', '.join(required) or ', '.join(optional)}")
            return {}
        for key in value:
            if key not in required and key not in optional:
                self.fail(f"{where}.{key}", f"unknown field; accepted: {', '.join([*required, *optional])}")
        for key in required:
            if key not in value:
                self.fail(f"{where}.{key}", "is missing")
        return value

    def text(self, value: t.Any, where: str, accepted: str = "text") -> str:
        if not isinstance(value, str) or not value.strip():
            self.fail(where, f"{value!r} is not accepted; accepted: {accepted}")
            return ""
        return value

    def name(self, value: t.Any, where: str) -> str:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            self.fail(where, f"{value!r} is not accepted; accepted: a letter, then letters, digits and _, all lower case, at most 63")
            return ""
        return value

    def choice(self, value: t.Any, where: str, choices: t.Sequence[str]) -> str:
        if value not in choices:
            self.fail(where, f"{value!r} is not accepted; accepted: {', '.join(choices)}")
            return choices[0]
        return str(value)

    def names(self, value: t.Any, where: str) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            self.fail(where, f"{value!r} is not accepted; accepted: a list of column names")
            return ()
        return tuple(value)

    def select(self, value: t.Any, where: str, default: str) -> str:
        """One SELECT statement; its syntax is checked here, its columns when it runs."""
        if value is None:
            return default
        sql = self.text(value, where, "one SELECT statement").strip().rstrip(";")
        if not sql:
            return default
        try:
            statements = duckdb.extract_statements(sql)
        except duckdb.Error as exc:
            self.fail(where, f"is not valid SQL: {str(exc).splitlines()[0]}")
            return default
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            self.fail(where, "is not accepted; accepted: exactly one SELECT statement")
            return default
        return sql

    def rules(self, value: t.Any, where: str, key: tuple[str, ...]) -> tuple[Rule, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self.fail(where, f"{value!r} is not accepted; accepted: a list of rules")
            return ()
        rules: list[Rule] = []
        for index, item in enumerate(value):
            place = f"{where}[{index}]"
            if not isinstance(item, dict) or item.get("rule") not in RULES:
                found = item.get("rule") if isinstance(item, dict) else item
                self.fail(f"{place}.rule", f"{found!r} is not accepted; accepted: {', '.join(RULES)}")
                continue
            rules.append(self.rule(item, place, key))
        for name in sorted({rule.name for rule in rules if [other.name for other in rules].count(rule.name) > 1}):
            self.fail(where, f"two rules are called {name!r}; give one of them another name")
        return tuple(rules)

    def rule(self, item: dict[str, t.Any], where: str, key: tuple[str, ...]) -> Rule:
        kind = item["rule"]
        required, optional = RULES[kind]
        self.mapping(item, where, ("rule", *required), (*optional, "severity", "name"))
        severity = self.choice(item.get("severity", "error"), f"{where}.severity", SEVERITIES)
        columns: tuple[str, ...] = ()
        minimum, maximum = item.get("min"), item.get("max")
        values: tuple[t.Any, ...] = ()
        sql = ""
        if kind in ("not_null", "unique"):
            if kind == "unique" and "columns" not in item:
                columns = key
                if not key:
                    self.fail(f"{where}.columns", "is missing and the table has no key")
            elif "columns" in item:
                columns = self.names(item["columns"], f"{where}.columns")
        elif kind in ("range", "accepted_values"):
            columns = (self.text(item.get("column"), f"{where}.column", "a column name"),)
        if kind in ("range", "row_count"):
            if minimum is None and maximum is None:
                self.fail(where, "needs min, max or both")
            for field, limit in (("min", minimum), ("max", maximum)):
                if kind == "row_count" and limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
                    self.fail(f"{where}.{field}", f"{limit!r} is not accepted; accepted: a whole number from 0")
                elif isinstance(limit, (list, dict, bool)):
                    self.fail(f"{where}.{field}", f"{limit!r} is not accepted; accepted: a number, date or text")
            if isinstance(minimum, (int, float)) and isinstance(maximum, (int, float)) and minimum > maximum:
                self.fail(where, f"min {minimum} is above max {maximum}")
        if kind == "accepted_values":
            if not isinstance(item.get("values"), list) or not item["values"]:
                self.fail(f"{where}.values", f"{item.get('values')!r} is not accepted; accepted: a list of values")
            else:
                values = tuple(item["values"])
        if kind == "expression":
            sql = self.text(item.get("sql"), f"{where}.sql", "a SQL condition that is true for every good row")
            if sql:
                try:
                    statements = duckdb.extract_statements(f"SELECT ({sql}\n)")
                    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                        self.fail(f"{where}.sql", "is not accepted; accepted: one SQL condition")
                except duckdb.Error as exc:
                    self.fail(f"{where}.sql", f"is not valid SQL: {str(exc).splitlines()[0]}")
        subject = ", ".join(columns) or sql
        name = self.text(item.get("name", f"{kind}({subject})" if subject else kind), f"{where}.name")
        return Rule(kind, name, severity, columns, _scalar(minimum), _scalar(maximum), tuple(map(_scalar, values)), sql)

    def options(self, value: t.Any, where: str, fmt: str) -> dict[str, t.Any]:
        if value is None:
            return {}
        accepted = OPTIONS[fmt]
        if not isinstance(value, dict):
            self.fail(where, f"{value!r} is not accepted; accepted: a mapping")
            return {}
        for key, option in value.items():
            if key not in accepted:
                self.fail(f"{where}.{key}", f"unknown option of format {fmt}; accepted: {', '.join(accepted) or 'none'}")
            elif not isinstance(option, accepted[key]) or (accepted[key] == (int,) and isinstance(option, bool)):
                self.fail(f"{where}.{key}", f"{option!r} is not accepted; accepted: {' or '.join(kind.__name__ for kind in accepted[key])}")
            elif key == "types":
                for column, kind in t.cast("dict[t.Any, t.Any]", option).items():
                    if not isinstance(column, str) or not isinstance(kind, str) or not _TYPE.fullmatch(kind):
                        self.fail(f"{where}.types.{column}", f"{kind!r} is not accepted; accepted: a DuckDB type such as DATE or DECIMAL(18,2)")
            elif key == "nullstr" and isinstance(option, list) and not all(isinstance(v, str) for v in option):
                self.fail(f"{where}.nullstr", f"{option!r} is not accepted; accepted: text or a list of texts")
            elif key == "records":
                self.choice(option, f"{where}.records", ("auto", "array", "newline_delimited", "unstructured"))
        return value

    def table(self, item: t.Any, where: str) -> Table | None:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            where = f"{where} ({item['name']})"
        before = len(self.findings)
        item = self.mapping(item, where, ("name", "source"), ("key", "silver", "gold"))
        name = self.name(item.get("name"), f"{where}.name")
        source = self.mapping(item.get("source"), f"{where}.source", ("uri", "format"), ("options",))
        uri = self.text(source.get("uri"), f"{where}.source.uri", "a URI such as file:///sources/x.csv, s3://bucket/key or https://host/x.csv")
        if uri and (uri.partition("://")[0] not in SCHEMES or not uri.partition("://")[2]):
            self.fail(f"{where}.source.uri", f"{uri!r} is not accepted; accepted: {', '.join(f'{s}://...' for s in SCHEMES)}")
        if uri.startswith("file://") and not uri.startswith("file:///"):
            self.fail(f"{where}.source.uri", f"{uri!r} is not accepted; a file needs an absolute path: file:///sources/x.csv")
        fmt = self.choice(source.get("format"), f"{where}.source.format", FORMATS)
        options = self.options(source.get("options"), f"{where}.source.options", fmt)
        key = self.names(item["key"], f"{where}.key") if "key" in item else ()
        silver = self.mapping(item.get("silver", {}), f"{where}.silver", (), ("sql", "rules"))
        silver_sql = self.select(silver.get("sql"), f"{where}.silver.sql", "SELECT * FROM source")
        rules = self.rules(silver.get("rules"), f"{where}.silver.rules", key)
        gold = []
        declared = item.get("gold", [{"name": name}])
        if not isinstance(declared, list) or not declared:
            self.fail(f"{where}.gold", f"{declared!r} is not accepted; accepted: a list of gold tables")
            declared = []
        for index, entry in enumerate(declared):
            place = f"{where}.gold[{index}]"
            entry = self.mapping(entry, place, ("name",), ("sql", "key", "rules"))
            gold_key = self.names(entry["key"], f"{place}.key") if "key" in entry else () if "sql" in entry else key
            gold.append(
                Gold(
                    self.name(entry.get("name"), f"{place}.name"),
                    self.select(entry.get("sql"), f"{place}.sql", "SELECT * FROM silver"),
                    gold_key,
                    self.rules(entry.get("rules"), f"{place}.rules", gold_key),
                )
            )
        if len(self.findings) > before:
            return None
        return Table(name, uri, fmt, options, key, silver_sql, rules, tuple(gold))


def _scalar(value: t.Any) -> t.Any:
    return value.isoformat() if isinstance(value, (datetime.date, datetime.datetime)) else value


def parse(document: t.Any) -> Config:
    """Check the whole document and report every finding at once."""
    check = _Checker()
    document = check.mapping(document, "configuration", ("tables",), ("version",))
    if document.get("version", 1) != 1:
        check.fail("version", f"{document['version']!r} is not accepted; accepted: 1")
    tables: list[Table] = []
    entries = document.get("tables")
    if document and (not isinstance(entries, list) or not entries):
        check.fail("tables", f"{entries!r} is not accepted; accepted: a list of tables")
        entries = []
    for index, item in enumerate(entries or []):
        table = check.table(item, f"tables[{index}]")
        if table is not None:
            tables.append(table)
    for kind, names in (
        ("table", [table.name for table in tables]),
        ("gold table", [gold.name for table in tables for gold in table.gold]),
    ):
        for name in sorted({name for name in names if names.count(name) > 1}):
            check.fail("tables", f"{kind} {name!r} is declared more than once")
    if check.findings:
        raise ConfigError(check.findings)
    return Config(tuple(tables))


def load(path: str) -> Config:
    try:
        with open(path, encoding="utf-8") as handle:
            document = yaml.safe_load(handle)
    except OSError as exc:
        raise ConfigError([f"PIPELINE_CONFIG: cannot read {path}: {exc.strerror}"]) from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError([f"PIPELINE_CONFIG: {path} is not valid YAML: {' '.join(str(exc).split())}"]) from exc
    try:
        return parse(document)
    except ConfigError as exc:
        raise ConfigError([f"{path}: {finding}" for finding in exc.findings]) from None
