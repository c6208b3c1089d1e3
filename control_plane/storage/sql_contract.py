"""What people's own SQL and Grafana may build on: views of the catalogue, functions, and a role that reads them.

Names begin with optiinfra_, and their columns neither go nor change their meaning: a view only grows at its end. So
they are no part of the migrations: a new field of the catalogue is in its view at the next start. docs/history.md
lists them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, LiteralString

from psycopg import errors, sql

import migrations
from control_plane.model.entity import EntityKind
from control_plane.storage.samples import COLUMNS
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES

READER: LiteralString = "optiinfra_reader"
# Views of other rooms that the role reads too.
OTHER_VIEWS = "grafana_%"
FUNCTIONS = ("optiinfra_minutes", "optiinfra_hours", "optiinfra_samples")
_HELPERS = (
    "optiinfra_rolled_up(regclass, interval, interval, text, timestamptz, timestamptz, text, integer[])",
    *(f"{name}(text, timestamptz, timestamptz, text, integer[])" for name in FUNCTIONS),
)
# What a row points at, and what is said better by other columns.
_LEFT_OUT = {"node_id", "unknown_set_id", "layout_id"}
_KINDS = ", ".join(f"({int(kind)}, '{kind.name.lower()}')" for kind in EntityKind)

_FIXED: Mapping[str, Mapping[str, str]] = {
    "optiinfra_nodes": {
        "node_id": "n.node_id",
        "node": "n.name",
        "agent_version": "n.agent_version",
        "attributes": "n.attributes",
        "first_seen_at": "n.first_seen_at",
        "last_sample_at": "s.taken_at",
        "clock_offset_seconds": "s.clock_offset_seconds",
    },
    "optiinfra_entities": {
        "entity_id": "e.entity_id",
        "kind": "k.name",
        "node_id": "e.node_id",
        "node": "n.name",
        "key": "e.key",
        "attributes": "e.attributes",
        "first_seen_at": "e.first_seen_at",
        "last_seen_at": "e.last_seen_at",
    },
    "optiinfra_events": {
        "taken_at": "v.taken_at",
        "node": "n.name",
        "kind": "v.kind",
        "severity": "v.severity",
        "about": "k.name",
        "key": "v.entity_key",
        "detail": "v.detail",
    },
    "optiinfra_fields": {"of": "f.table_name", "field": "f.name"},
    "optiinfra_slos": {
        "slo_id": "o.slo_id",
        "slo": "o.name",
        "indicator": "o.definition->>'indicator'",
        "target_ratio": "(o.definition->>'target_ratio')::float8",
        "window_days": "(o.definition->>'window_days')::float8",
        "definition": "o.definition",
        "verdict": "j.verdict",
        "because": "j.because",
        "judged_at": "j.judged_at",
    },
    **{
        f"optiinfra_slo_{unit}s": {
            "time": "m.start",
            "slo_id": "m.slo_id",
            "slo": "o.name",
            "good": "m.good",
            "bad": "m.bad",
            "doubtful": "m.doubtful",
            "target_ratio": "(o.definition->>'target_ratio')::float8",
        }
        for unit in ("minute", "hour")
    },
    "optiinfra_slo_violations": {
        "since": "v.since",
        "detected_at": "v.detected_at",
        "ended_at": "v.ended_at",
        "slo": "o.name",
        "node": "n.name",
        "inference_server": "e.key",
        "kind": "v.kind",
        "events": "v.events",
        "bad": "v.bad",
    },
    "optiinfra_bottlenecks": {
        "since": "b.since",
        "until": "b.until",
        "node": "n.name",
        "about": "k.name",
        "key": "e.key",
        "bottleneck": "b.bottleneck",
        "is_now": "b.is_now",
    },
    "optiinfra_alerts": {
        "since": "a.since",
        "fired_at": "a.fired_at",
        "resolved_at": "a.resolved_at",
        "rule": "a.rule",
        "severity": "a.severity",
        "state": "a.state",
        "summary": "a.summary",
        "labels": "a.labels",
        "acknowledged_by": "a.acknowledged_by",
    },
}
_OF_OBJECTIVES = "JOIN slo o USING (slo_id)"
_SPELLS = (
    "SELECT entity_id, since, until, bottleneck, true AS is_now FROM bottleneck_now "
    "UNION ALL SELECT entity_id, since, until, bottleneck, false FROM bottleneck_spell"
)
_SOURCES: Mapping[str, str] = {
    "optiinfra_nodes": "node n LEFT JOIN node_status s USING (node_id) WHERE n.forgotten_at IS NULL",
    "optiinfra_entities": f"entity e JOIN node n USING (node_id) JOIN (VALUES {_KINDS}) k(kind, name) USING (kind)",
    "optiinfra_events": "event v JOIN node n USING (node_id) "
    f"LEFT JOIN (VALUES {_KINDS}) k(kind, name) ON k.kind = v.entity_kind",
    "optiinfra_fields": "metric_field f",
    "optiinfra_slos": "slo o LEFT JOIN slo_judgement j ON j.slo_id = o.slo_id AND j.entity_id = 0",
    "optiinfra_slo_minutes": f"slo_minute m {_OF_OBJECTIVES}",
    "optiinfra_slo_hours": f"slo_hour m {_OF_OBJECTIVES}",
    "optiinfra_slo_violations": f"slo_violation v {_OF_OBJECTIVES} LEFT JOIN entity e ON e.entity_id = v.entity_id "
    "LEFT JOIN node n USING (node_id)",
    "optiinfra_bottlenecks": f"({_SPELLS}) b JOIN entity e USING (entity_id) JOIN node n USING (node_id) "
    f"JOIN (VALUES {_KINDS}) k(kind, name) USING (kind)",
    "optiinfra_alerts": "alert a",
}


def views() -> Mapping[str, tuple[Mapping[str, str], str]]:
    """This will give each view's columns, as SQL by name, and what they are selected from."""
    found = {name: (columns, _SOURCES[name]) for name, columns in _FIXED.items()}
    for table, spec in TABLES.items():
        thing = {} if spec.entity == "node" else {spec.entity: "e.key"}
        columns = {
            "node": "n.name",
            **thing,
            "taken_at": "s.taken_at",
            "entity_id": "s.entity_id",
            **{name: f's."{name}"' for name, _ in COLUMNS[table] if name not in (*_LEFT_OUT, "taken_at", "entity_id")},
            "unknown": "u.reasons",
        }
        for of in ("sample", "latest"):
            source = (
                f"{table}_{of} s JOIN entity e USING (entity_id) JOIN node n ON n.node_id = s.node_id "
                "LEFT JOIN unknown_set u USING (unknown_set_id)"
            )
            found[f"optiinfra_{table}_{'samples' if of == 'sample' else of}"] = (columns, source)
    return found


def install(connection: SyncConnection) -> bool:
    """This will make what is missing or of an earlier release, and say whether there was anything to do.

    The schema must be at its newest revision, and the caller hold the lock under which it is changed.
    """
    functions = (Path(migrations.__file__).parent / "contract.sql").read_text(encoding="utf-8")
    wanted = hashlib.sha256(repr((functions, views(), READER, OTHER_VIEWS)).encode()).hexdigest()
    with connection.transaction():
        if _installed(connection) == wanted and _may_read(connection):
            return False
        connection.execute("SET LOCAL lock_timeout = '5s'")
        connection.execute(functions.encode())
        for name, (columns, source) in views().items():
            connection.execute(_statement(connection, name, columns, source))
        _grant(connection)
        comment = sql.SQL("COMMENT ON VIEW optiinfra_nodes IS {}").format(sql.Literal(f"contract {wanted}"))
        connection.execute(comment)
    return True


def drop(connection: SyncConnection) -> None:
    """This will drop the views, which hold the tables as they are: for a way back through the migrations."""
    for name in views():
        connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier(name)))


def _installed(connection: SyncConnection) -> str | None:
    row = connection.execute("SELECT obj_description(to_regclass('optiinfra_nodes'), 'pg_class')").fetchone()
    return None if row is None or row[0] is None else str(row[0]).removeprefix("contract ")


def _may_read(connection: SyncConnection) -> bool:
    """This will say whether the role has its rights, or is not there: somebody may have made it since, or a restore."""
    row = connection.execute(
        "SELECT bool_and(has_table_privilege(rolname, 'optiinfra_nodes', 'SELECT')) FROM pg_roles WHERE rolname = %s",
        (READER,),
    ).fetchone()
    return row is None or row[0] is not False


def _statement(connection: SyncConnection, name: str, columns: Mapping[str, str], source: str) -> bytes:
    """This will give the statement that makes a view, or makes it longer: what it has stays where it is."""
    rows = connection.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a "
        "WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 ORDER BY a.attnum",
        (name,),
    ).fetchall()
    has: dict[str, str] = dict(rows)
    selected = list(_selected(columns, has))
    return f"CREATE OR REPLACE VIEW {name} AS SELECT {', '.join(selected)} FROM {source}".encode()  # noqa: S608


def _selected(columns: Mapping[str, str], has: Mapping[str, str]) -> Iterator[str]:
    for name, kind in has.items():  # a field that the catalogue has no longer is unknown from now on
        yield f'{columns[name]} AS "{name}"' if name in columns else f'NULL::{kind} AS "{name}"'
    for name, expression in columns.items():
        if name not in has:
            yield f'{expression} AS "{name}"'


def _grant(connection: SyncConnection) -> None:
    """This will let the role read the views and call the functions, and nobody else call them."""
    for function in _HELPERS:
        connection.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC".encode())
    if not _role_exists(connection):
        return
    others = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'v' AND relnamespace = current_schema()::regnamespace "
        "AND relname LIKE %s",
        (OTHER_VIEWS,),
    ).fetchall()
    names: list[Any] = [*views(), *(name for (name,) in others)]
    schema = connection.execute("SELECT current_schema()").fetchone()
    assert schema is not None
    reader = sql.Identifier(READER)
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema[0]), reader))
    listed = sql.SQL(", ").join(map(sql.Identifier, names))
    connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(listed, reader))
    for function in _HELPERS[1:]:
        connection.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {READER}".encode())


def _role_exists(connection: SyncConnection) -> bool:
    """This will make the role, which all databases of a server share; False when we may not and nobody has."""
    query = "SELECT FROM pg_roles WHERE rolname = %s"
    if connection.execute(query, (READER,)).fetchone() is not None:
        return True
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(READER)))
    except (errors.DuplicateObject, errors.UniqueViolation):
        return True  # somebody was faster
    except errors.InsufficientPrivilege:
        return False
    return True
