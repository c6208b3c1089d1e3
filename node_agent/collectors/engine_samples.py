"""What a look at a server becomes: entities and samples, of the server and of a cache inside of it."""

from __future__ import annotations

from node_agent.collectors.engine_scrape import Scrape, State
from node_agent.collectors.engine_watch import Watched
from node_agent.collectors.engines.lmcache import CAPACITY, LMCACHE
from node_agent.model import Entity, EntityKind, Reason, Sample, Value
from optiinfra.catalogue import TABLES

_KINDS = {"inference": EntityKind.INFERENCE_SERVER, "lmcache": EntityKind.CACHE_SERVER}
INSIDE = "#lmcache"  # behind the address of the server that holds the cache


def entities_of(watched: Watched, found: Scrape) -> list[Entity]:
    """This will describe a server and, if it has one inside, its cache."""
    inner = found.inner_cache
    if inner is None:
        return [_entity(watched, found)]
    ill = inner.values.get("healthy_flag") == 0
    attributes = {
        "engine": LMCACHE.name,
        "state": State.UNHEALTHY.value if ill else State.UP.value,
        "state_detail": "the cache says that it is not healthy" if ill else "",
        "source": watched.server.source,
        "pid": watched.server.pid,
        "config": {"mode": "in_process"},
    }
    cache = Entity(kind=EntityKind.CACHE_SERVER, key=watched.server.url + INSIDE, attributes=attributes)
    return [_entity(watched, found), cache]


def samples_of(watched: Watched, found: Scrape) -> list[Sample]:
    """This will give the values of a server and, if it has one inside, of its cache."""
    inner = found.inner_cache
    own = [_sample(watched, found)]
    if watched.group is not None and _table(watched) == "inference":
        own.append(watched.group.sample)
    if inner is None:
        return own
    values: dict[str, Value] = {"up_flag": 1.0, **inner.values, **_of_the_scrape(watched, found)}
    cache = Sample(table="lmcache", entity=(EntityKind.CACHE_SERVER, watched.server.url + INSIDE), values=values)
    return [*own, cache]


def _table(watched: Watched) -> str:
    """This will give the table of a server's samples; one that never answered is taken for an inference server."""
    return "inference" if watched.engine is None else watched.engine.table


def _entity(watched: Watched, found: Scrape) -> Entity:
    """This will describe a server; of one that is gone, as it was."""
    server, said = watched.server, watched.configuration
    model = said.model if said.model in watched.models or not watched.models else watched.models[0]
    attributes: dict[str, object] = {
        "engine": None if watched.engine is None else watched.engine.name,
        "version": said.version,
        "model": model,
        "max_model_len": watched.longest_request_tokens,
        "state": found.state.value,
        "state_detail": found.detail,
        "source": server.source,
        "pid": None if found.state is State.GONE else server.pid,
        "pids_left_out": 0 if found.state is State.GONE else server.pids_left_out,
        "pids": [] if found.state is State.GONE else list(server.pids),
        "cgroup": None if watched.group is None else watched.group.path,
        "cgroup_status": None if watched.group is None else watched.group.status.value,
        "config": {**server.flags, **said.config},  # what the engine resolved wins over what it was asked for
        "config_read_at": None if watched.config_read_at is None else watched.config_read_at.isoformat(),
    }
    return Entity(kind=_KINDS[_table(watched)], key=server.url, attributes=attributes)


def _sample(watched: Watched, found: Scrape) -> Sample:
    """This will give a server's values, or for each the reason why there is none."""
    table = _table(watched)
    values: dict[str, Value] = dict.fromkeys((spec.name for spec in TABLES[table].fields), found.missing)
    values["up_flag"] = 0.0 if found.reading is None else 1.0
    if found.reading is not None:
        values.update(found.reading.values)
        values.update(_of_the_scrape(watched, found))
        if table == LMCACHE.table:
            values.update(_of_the_cache(watched))
    return Sample(table=table, entity=(_KINDS[table], watched.server.url), values=values)


def _of_the_scrape(watched: Watched, found: Scrape) -> dict[str, Value]:
    """This will give what the look itself measured."""
    return {
        "scrape_seconds": Reason.NOT_COLLECTED if found.seconds is None else found.seconds,
        "counters_since_unix_seconds": Reason.ERROR if watched.since is None else watched.since,
    }


def _of_the_cache(watched: Watched) -> dict[str, Value]:
    """This will give what a cache says of itself outside of its metrics."""
    said: dict[str, Value] = {}
    if watched.health in (200, 503):
        said["healthy_flag"] = 1.0 if watched.health == 200 else 0.0
    capacity = watched.configuration.config.get(CAPACITY)
    if isinstance(capacity, int) and not isinstance(capacity, bool) and capacity > 0:
        said[CAPACITY] = capacity
    return said
