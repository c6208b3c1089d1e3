"""The tables as SQLAlchemy sees them. Migrations make them; a test compares the two.

Sample tables derive from the catalogue: one wide row per entity and tick, partitioned by day.
Eight-byte columns stand first, then four-byte ones, then arrays, so that no row pays for padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy import TIMESTAMP as _TIMESTAMP
from sqlalchemy.dialects.postgresql import JSONB, REAL

from control_plane.model.use import GPU_USE, SERVER_USE
from optiinfra.catalogue import TABLES, TableSpec

metadata = MetaData()
TIMESTAMPTZ = _TIMESTAMP(timezone=True)

node = Table(
    "node",
    metadata,
    Column("node_id", Integer, Identity(always=True), primary_key=True),
    Column("agent_id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("replayed", Boolean, nullable=False),
    Column("attributes", JSONB, nullable=False),
    Column("first_seen_at", TIMESTAMPTZ, nullable=False),
    Column("connected_at", TIMESTAMPTZ, nullable=False),
    Column("forgotten_at", TIMESTAMPTZ),
)

# One row per node that changes with every commit; apart from `node`, so that its rows stay small and HOT.
node_status = Table(
    "node_status",
    metadata,
    Column("node_id", Integer, ForeignKey("node.node_id", ondelete="CASCADE"), primary_key=True),
    Column("taken_at", TIMESTAMPTZ, nullable=False),
    Column("received_at", TIMESTAMPTZ, nullable=False),
    Column("clock_offset_seconds", Double),
    Column("sampling_interval_seconds", Double),
    Column("collectors", JSONB, nullable=False),
)

entity = Table(
    "entity",
    metadata,
    Column("entity_id", Integer, Identity(always=True), primary_key=True),
    Column("node_id", Integer, ForeignKey("node.node_id", ondelete="CASCADE"), nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("attributes", JSONB, nullable=False),
    Column("first_seen_at", TIMESTAMPTZ, nullable=False),
    Column("last_seen_at", TIMESTAMPTZ, nullable=False),
    Column("state_since", TIMESTAMPTZ, nullable=False),
    UniqueConstraint("node_id", "kind", "key"),
)

# Rows name a set of unknown fields instead of repeating it: a GPU without GPM lacks the same eight for ever.
unknown_set = Table(
    "unknown_set",
    metadata,
    Column("unknown_set_id", Integer, Identity(always=True), primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
)

# Bucket bounds differ by engine, version and model; a row names its bounds instead of repeating them.
histogram_layout = Table(
    "histogram_layout",
    metadata,
    Column("layout_id", Integer, Identity(always=True), primary_key=True),
    Column("bounds", JSONB, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
)

ingest_cursor = Table(
    "ingest_cursor",
    metadata,
    Column("node_id", Integer, ForeignKey("node.node_id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", LargeBinary, primary_key=True),
    Column("committed_seq", BigInteger, nullable=False),
    Column("updated_at", TIMESTAMPTZ, nullable=False),
)

sample_loss = Table(
    "sample_loss",
    metadata,
    Column("node_id", Integer, ForeignKey("node.node_id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", LargeBinary, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("first_taken_at", TIMESTAMPTZ),
    Column("last_taken_at", TIMESTAMPTZ),
    Column("tick_count", BigInteger),
    Column("reason", Text, nullable=False),
    Column("recorded_at", TIMESTAMPTZ, nullable=False),
)

ingest_refusal = Table(
    "ingest_refusal",
    metadata,
    Column("node_id", Integer, ForeignKey("node.node_id", ondelete="CASCADE"), primary_key=True),
    Column("cause", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_detail", Text, nullable=False),
    Column("last_at", TIMESTAMPTZ, nullable=False),
)

join_token = Table(
    "join_token",
    metadata,
    Column("token_id", Integer, Identity(always=True), primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),  # SHA-256: the token itself is shown once and not kept
    Column("node_name", Text),
    Column("max_uses", Integer, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("created_at", TIMESTAMPTZ, nullable=False),
    Column("expires_at", TIMESTAMPTZ, nullable=False),
)

# Which agents may hold a certificate. The id is in each of them: without its row a certificate is worth nothing.
enrolment = Table(
    "enrolment",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("enrolment_id", Text, nullable=False, unique=True),
    Column("key_digest", LargeBinary, nullable=False),
    Column("token_id", Integer, nullable=False),
    Column("node_name", Text, nullable=False),
    Column("enrolled_at", TIMESTAMPTZ, nullable=False),
)

# What a node is configured to, and the newest answer of its agent.
node_configuration = Table(
    "node_configuration",
    metadata,
    Column("node_id", Integer, ForeignKey("node.node_id", ondelete="CASCADE"), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("desired", JSONB, nullable=False),
    Column("changed_at", TIMESTAMPTZ, nullable=False),
    Column("answered_revision", BigInteger),
    Column("is_applied", Boolean),
    Column("detail", Text),
    Column("answered_at", TIMESTAMPTZ),
    Column("in_force_revision", BigInteger),
    Column("in_force", JSONB(none_as_null=True)),
)

event = Table(
    "event",
    metadata,
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("node_id", Integer, ForeignKey("node.node_id", ondelete="CASCADE"), nullable=False),
    Column("taken_at", TIMESTAMPTZ, nullable=False),
    Column("received_at", TIMESTAMPTZ, nullable=False),
    Column("entity_kind", SmallInteger, nullable=False),
    Column("severity", SmallInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("entity_key", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
)

# Who may do a job that only one replica may do at a time. A token grows with every change of hands.
job_lease = Table(
    "job_lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", TIMESTAMPTZ, nullable=False),
)

# Fields by number: rollups and packed samples name a field in two bytes, and a new one needs no new column.
metric_field = Table(
    "metric_field",
    metadata,
    Column("field_id", SmallInteger, Identity(always=True), primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("table_name", "name"),
)

rollup_progress = Table(
    "rollup_progress",
    metadata,
    Column("name", Text, primary_key=True),
    Column("until", TIMESTAMPTZ, nullable=False),
)

# Minutes of nodes whose samples came when the minute had been rolled up already.
rollup_due = Table(
    "rollup_due",
    metadata,
    Column("minute", TIMESTAMPTZ, primary_key=True),
    Column("node_id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
)


api_key = Table(
    "api_key",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", TIMESTAMPTZ, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", TIMESTAMPTZ, nullable=False),
    Column("revoked_at", TIMESTAMPTZ),
    Column("last_used_at", TIMESTAMPTZ),
)

idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("created_at", TIMESTAMPTZ, nullable=False),
    Column("status", SmallInteger),
    Column("media_type", Text),
    Column("content", LargeBinary),
)

# No reference to api_key: what somebody did stays known when their key is gone.
audit_entry = Table(
    "audit_entry",
    metadata,
    Column("audit_id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", TIMESTAMPTZ, nullable=False),
    Column("caller_kind", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("caller_name", Text, nullable=False),
    Column("address", Text),
    Column("operation", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("asked", JSONB, nullable=False),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("status", SmallInteger),
    Column("ended_at", TIMESTAMPTZ),
)


def _rollup_table(name: str) -> Table:
    """One row holds one field of many entities over several units of time; storage/rollups/blocks.py says how."""
    arrays: dict[str, Any] = {
        "samples": Integer(), "known": Integer(), "reason": SmallInteger(),
        "minimum": REAL(), "mean": REAL(), "maximum": REAL(),
        "p50": SmallInteger(), "p95": SmallInteger(), "p99": SmallInteger(),
        "last": REAL(), "last_exact": Double(), "share": REAL(),
        "increase": Double(), "seconds": REAL(), "resets": Integer(), "reset_increase": Double(),
        "buckets": BigInteger(),
        "entities": Integer(),
    }  # fmt: skip
    return Table(
        name,
        metadata,
        Column("start", TIMESTAMPTZ, nullable=False),
        Column("first_entity", Integer, nullable=False),
        Column("last_entity", Integer, nullable=False),
        Column("layout_id", Integer),
        Column("field_id", SmallInteger, nullable=False),
        Column("units", SmallInteger, nullable=False),
        Column("entity_ids", ARRAY(Integer), nullable=False),
        *[Column(array, ARRAY(kind), nullable=array != "samples") for array, kind in arrays.items()],
        Column("sketch", LargeBinary),
        postgresql_partition_by="RANGE (start)",
    )


ROLLUP_TABLES = {"minute": _rollup_table("rollup_minute"), "hour": _rollup_table("rollup_hour")}

# One row: one column of a node's samples of an hour; storage/packing says how.
packed_sample = Table(
    "packed_sample",
    metadata,
    Column("hour", TIMESTAMPTZ, nullable=False),
    Column("multiplier", BigInteger, nullable=False),
    Column("divisor", BigInteger, nullable=False),
    Column("node_id", Integer, nullable=False),
    Column("field_id", SmallInteger, nullable=False),
    Column("block", SmallInteger, nullable=False),
    Column("samples", SmallInteger, nullable=False),
    Column("width", SmallInteger, nullable=False),
    Column("encoding", SmallInteger, nullable=False),
    Column("entity_ids", ARRAY(Integer), nullable=False),
    Column("base", ARRAY(BigInteger), nullable=False),
    Column("step", ARRAY(BigInteger)),
    *[Column(f"p{weight}", LargeBinary) for weight in range(8)],
    Column("missing", LargeBinary),
    postgresql_partition_by="RANGE (hour)",
)

packing_due = Table(
    "packing_due",
    metadata,
    Column("day", Date, primary_key=True),
    Column("node_id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
)


def _use_table(name: str, columns: Sequence[str]) -> Table:
    """What things did in one stretch of time: sums that can be added up further. NaN is unknown."""
    return Table(
        name,
        metadata,
        Column("start", TIMESTAMPTZ, nullable=False),
        Column("node_id", Integer, nullable=False),
        Column("entity_id", Integer, nullable=False),
        Column("owner_id", Integer, nullable=False),
        *[Column(column, REAL(), nullable=False) for column in columns],
    )


# Five minutes and an hour.
USE_TABLES = {
    ("gpu", "slot"): _use_table("gpu_use_slot", GPU_USE),
    ("gpu", "hour"): _use_table("gpu_use_hour", GPU_USE),
    ("server", "slot"): _use_table("server_use_slot", SERVER_USE),
    ("server", "hour"): _use_table("server_use_hour", SERVER_USE),
}

# Who had a GPU; rows of use name it instead of repeating it. 0 stands for nobody.
use_owner = Table(
    "use_owner",
    metadata,
    Column("owner_id", Integer, Identity(always=True), primary_key=True),
    Column("owner", JSONB, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
)

# Stretches of nodes whose samples came when their use had been summed up already.
use_due = Table(
    "use_due",
    metadata,
    Column("node_id", Integer, primary_key=True, autoincrement=False),
    Column("start", TIMESTAMPTZ, primary_key=True),
    Column("version", BigInteger, nullable=False),
)

stage_progress = Table(
    "stage_progress",
    metadata,
    Column("name", Text, primary_key=True),
    Column("until", TIMESTAMPTZ, nullable=False),
)

# What stages found out about a window, one row for each thing that it is about.
finding = Table(
    "finding",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("window_seconds", Integer, primary_key=True),
    Column("subject_kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("place", Integer, nullable=False),  # in the order of the list that it is shown in
    Column("node_id", Integer),
    Column("since", TIMESTAMPTZ, nullable=False),
    Column("until", TIMESTAMPTZ, nullable=False),
    Column("found_at", TIMESTAMPTZ, nullable=False),
    Column("body", JSONB, nullable=False),
)

# Prices as they were entered; the newest row holds, and none is ever changed.
price_book = Table(
    "price_book",
    metadata,
    Column("book_id", Integer, Identity(always=True), primary_key=True),
    Column("entered_at", TIMESTAMPTZ, nullable=False),
    Column("body", JSONB, nullable=False),
)


def sample_columns(spec: TableSpec) -> list[tuple[str, Any]]:
    """This will give the names and types of a sample table's columns, in their order on disk."""
    columns: list[tuple[str, Any]] = [("taken_at", TIMESTAMPTZ)]
    if spec.name == "host":
        columns.append(("received_at", TIMESTAMPTZ))
    columns += [(f.name, Double()) for f in spec.fields if f.type == "double"]
    columns += [(f.name, BigInteger()) for f in spec.fields if f.type == "bigint"]
    columns += [(f"{f.name}_sum", Double()) for f in spec.histograms]
    columns += [("node_id", Integer()), ("entity_id", Integer()), ("unknown_set_id", Integer())]
    if spec.histograms:
        columns.append(("layout_id", Integer()))
    if spec.name == "host":
        columns.append(("clock_offset_seconds", REAL()))
    columns += [(f.name, REAL()) for f in spec.fields if f.type == "real"]
    columns += [(f.name, ARRAY(REAL())) for f in spec.fields if f.type == "real[]"]
    columns += [(f"{f.name}_buckets", ARRAY(BigInteger())) for f in spec.histograms]
    return columns


# Columns that the release before this one fills, for as long as it may run beside it; ours leave them NULL, and the
# next release drops them. All of them moved to gpu_health.
_MOVED = frozenset({
    "bar1_used_bytes", "bar1_total_bytes", "compute_processes_count", "recovery_action_code", "pcie_replays_total",
    "throttled_power_cap_seconds_total", "throttled_sync_boost_seconds_total", "throttled_power_brake_seconds_total",
    "throttled_software_thermal_seconds_total", "throttled_hardware_thermal_seconds_total",
    "ecc_corrected_volatile_total", "ecc_uncorrected_volatile_total", "ecc_corrected_aggregate_total",
    "ecc_uncorrected_aggregate_total", "remapped_rows_correctable_total", "remapped_rows_uncorrectable_total",
    "remapped_rows_pending_flag", "remapped_rows_failure_flag", "retired_pages_single_bit_total",
    "retired_pages_double_bit_total", "retired_pages_pending_flag", "nvlink_transmit_bytes_total",
    "nvlink_receive_bytes_total", "nvlink_crc_flit_errors_total", "nvlink_crc_data_errors_total",
    "nvlink_replays_total", "nvlink_recoveries_total",
})  # fmt: skip
LEFT_BEHIND = dict.fromkeys(("gpu_sample", "gpu_latest"), _MOVED)

_REQUIRED = ("taken_at", "received_at", "node_id", "entity_id")


def _sample_table(spec: TableSpec) -> Table:
    columns = [Column(name, kind, nullable=name not in _REQUIRED) for name, kind in sample_columns(spec)]
    return Table(f"{spec.name}_sample", metadata, *columns, postgresql_partition_by="RANGE (taken_at)")


def _latest_table(spec: TableSpec) -> Table:
    columns = [
        Column(name, kind, nullable=name not in _REQUIRED, primary_key=name == "entity_id", autoincrement=False)
        for name, kind in sample_columns(spec)
    ]
    return Table(f"{spec.name}_latest", metadata, *columns)


SAMPLE_TABLES = {name: _sample_table(spec) for name, spec in TABLES.items()}
LATEST_TABLES = {name: _latest_table(spec) for name, spec in TABLES.items()}
