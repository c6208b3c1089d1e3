CREATE TABLE trial (
    trial_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    asked_by TEXT NOT NULL,
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    spec JSONB NOT NULL,
    sealed_keys JSONB,
    owner TEXT,
    beat_at TIMESTAMPTZ,
    cancelled_by TEXT,
    progress JSONB,
    verdict TEXT,
    because TEXT NOT NULL,
    result JSONB
);

CREATE INDEX trial_asked ON trial (asked_at DESC, trial_id);
CREATE INDEX trial_open ON trial (asked_at) WHERE ended_at IS NULL;
