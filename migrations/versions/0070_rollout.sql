CREATE TABLE rollout (
    rollout_id TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    due_at TIMESTAMPTZ,
    settings JSONB NOT NULL,
    body JSONB NOT NULL
);

CREATE UNIQUE INDEX rollout_one_per_target ON rollout (target) WHERE ended_at IS NULL;
CREATE INDEX rollout_due ON rollout (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX rollout_started ON rollout (started_at DESC, rollout_id);

CREATE TABLE rollout_intent (
    key TEXT PRIMARY KEY,
    rollout_id TEXT NOT NULL REFERENCES rollout (rollout_id) ON DELETE CASCADE,
    effect TEXT NOT NULL,
    value INTEGER NOT NULL,
    decided_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX rollout_intent_rollout ON rollout_intent (rollout_id);

CREATE TABLE rollout_note (
    note_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rollout_id TEXT NOT NULL REFERENCES rollout (rollout_id) ON DELETE CASCADE,
    at TIMESTAMPTZ NOT NULL,
    event TEXT NOT NULL,
    state TEXT NOT NULL,
    because TEXT NOT NULL,
    details JSONB NOT NULL
);

CREATE INDEX rollout_note_rollout ON rollout_note (rollout_id, note_id);
