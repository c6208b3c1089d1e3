SET LOCAL lock_timeout = '5s';

-- One row: all that is configured of alerts. Secrets in it are sealed.
CREATE TABLE alert_configuration (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL,
    document jsonb NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL
);

CREATE TABLE alert (
    alert_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    fired_at timestamptz,
    quiet_since timestamptz,
    resolved_at timestamptz,
    unknown_since timestamptz,
    acknowledged_at timestamptz,
    value double precision,
    fingerprint text NOT NULL,
    rule text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL,
    state text NOT NULL,
    summary text NOT NULL,
    labels jsonb NOT NULL,
    evidence jsonb NOT NULL,
    flaps timestamptz[] NOT NULL,
    runbook_url text,
    resolution text,
    acknowledged_by text,
    acknowledgement text,
    silenced_by text,
    inhibited_by text,
    -- Nothing is left to tell of it.
    is_settled boolean NOT NULL
);
CREATE UNIQUE INDEX ON alert (fingerprint) WHERE state <> 'resolved';
CREATE INDEX ON alert (fired_at) WHERE fired_at IS NOT NULL;
CREATE INDEX ON alert (alert_id) WHERE NOT is_settled;
CREATE INDEX ON alert (fingerprint, resolved_at);

-- What changed, in the order in which it did: what streams read.
CREATE TABLE alert_change (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id bigint NOT NULL REFERENCES alert ON DELETE CASCADE,
    changed_at timestamptz NOT NULL,
    change text NOT NULL
);
CREATE INDEX ON alert_change (alert_id);
CREATE INDEX ON alert_change (changed_at);

CREATE TABLE alert_group (
    receiver text NOT NULL,
    group_key text NOT NULL,
    labels jsonb NOT NULL,
    told jsonb NOT NULL,
    changed_at timestamptz,
    told_at timestamptz,
    PRIMARY KEY (receiver, group_key)
);

-- What is to be sent, written with what it tells of. A row is marked before it is sent and after.
CREATE TABLE alert_outbox (
    notification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempted_at timestamptz,
    sent_at timestamptz,
    attempts integer NOT NULL,
    receiver text NOT NULL,
    group_key text NOT NULL,
    state text NOT NULL,
    last_error text,
    body jsonb NOT NULL
);
CREATE INDEX ON alert_outbox (due_at) WHERE state IN ('waiting', 'sending');
CREATE INDEX ON alert_outbox (created_at);
