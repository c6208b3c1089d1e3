CREATE TABLE workflow (
    workflow_id TEXT PRIMARY KEY,
    graph_version INTEGER NOT NULL,
    state TEXT NOT NULL,
    because TEXT NOT NULL,
    started_by TEXT NOT NULL,
    asked JSONB NOT NULL,
    recommendation_id BIGINT,
    pending JSONB,
    started_at TIMESTAMPTZ NOT NULL,
    due_at TIMESTAMPTZ,
    deadline_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    drives INTEGER NOT NULL
);

CREATE INDEX workflow_due ON workflow (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX workflow_started ON workflow (started_at DESC, workflow_id);
CREATE UNIQUE INDEX workflow_one_per_recommendation ON workflow (recommendation_id) WHERE ended_at IS NULL;

CREATE TABLE workflow_step (
    workflow_id TEXT NOT NULL REFERENCES workflow (workflow_id) ON DELETE CASCADE,
    step TEXT NOT NULL,
    place BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMPTZ NOT NULL,
    detail JSONB NOT NULL,
    PRIMARY KEY (workflow_id, step)
);

CREATE SCHEMA langgraph;
