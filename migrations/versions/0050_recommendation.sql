CREATE TABLE recommendation (
    recommendation_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    subject_id INTEGER,
    made_at TIMESTAMPTZ NOT NULL,
    found_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    decided_at TIMESTAMPTZ,
    decided_by TEXT,
    reason TEXT,
    saved_usd_per_month DOUBLE PRECISION,
    gain_ratio DOUBLE PRECISION NOT NULL,
    body JSONB NOT NULL,
    realised JSONB
);

CREATE UNIQUE INDEX recommendation_alive ON recommendation (fingerprint)
    WHERE state IN ('open', 'approved', 'executing');
CREATE INDEX recommendation_subject ON recommendation (kind, subject_kind, subject, subject_id);
CREATE INDEX recommendation_expiry ON recommendation (expires_at) WHERE state IN ('open', 'approved');
