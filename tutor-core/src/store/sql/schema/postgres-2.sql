ALTER TABLE messages RENAME TO seed_messages;

ALTER TABLE chat_sessions RENAME TO seed_sessions;

ALTER TABLE seed_sessions ADD COLUMN new_id VARCHAR;

ALTER TABLE seed_messages ADD COLUMN new_id VARCHAR;

ALTER TABLE seed_messages ADD COLUMN place BIGINT;

-- Ids as they are, unless nobody could write them in a URL. Rows are where they were inserted.
UPDATE seed_sessions SET new_id =
    CASE WHEN numbered.id ~ '^[-A-Za-z0-9._~@:+]{1,128}$' AND trim(numbered.id, '.') <> ''
    THEN numbered.id ELSE 'seed-' || numbered.place END
FROM (SELECT id, row_number() OVER (ORDER BY ctid) AS place FROM seed_sessions) AS numbered
WHERE numbered.id = seed_sessions.id;

UPDATE seed_messages SET place = numbered.place, new_id =
    CASE WHEN numbered.id ~ '^[-A-Za-z0-9._~@:+]{1,128}$' AND trim(numbered.id, '.') <> ''
    THEN numbered.id ELSE 'seed-' || numbered.place END
FROM (SELECT id, row_number() OVER (ORDER BY ctid) AS place FROM seed_messages) AS numbered
WHERE numbered.id = seed_messages.id;

UPDATE seed_messages SET timestamp = NULL WHERE NOT isfinite(timestamp);

UPDATE seed_sessions SET created_at = coalesce(
    CASE WHEN isfinite(created_at) THEN created_at END,
    (SELECT min(timestamp) FROM seed_messages WHERE session_id = seed_sessions.id),
    CASE WHEN isfinite(updated_at) THEN updated_at END,
    TIMESTAMP '1970-01-01 00:00:00');

UPDATE seed_sessions SET updated_at = coalesce(
    CASE WHEN isfinite(updated_at) THEN updated_at END,
    (SELECT max(timestamp) FROM seed_messages WHERE session_id = seed_sessions.id),
    created_at);

CREATE TABLE chat_sessions (
    owner VARCHAR COLLATE "C" NOT NULL DEFAULT 'local',
    id VARCHAR COLLATE "C" NOT NULL,
    title VARCHAR NOT NULL,
    created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    message_count BIGINT NOT NULL DEFAULT 0,
    next_seq BIGINT NOT NULL DEFAULT 0,
    head VARCHAR COLLATE "C",
    running_turn VARCHAR COLLATE "C",
    forked BIGINT NOT NULL DEFAULT 0,
    details TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (owner, id)
);

CREATE TABLE messages (
    owner VARCHAR COLLATE "C" NOT NULL DEFAULT 'local',
    id VARCHAR COLLATE "C" NOT NULL,
    session_id VARCHAR COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    parent_id VARCHAR COLLATE "C",
    turn_id VARCHAR COLLATE "C",
    role VARCHAR NOT NULL,
    content TEXT NOT NULL,
    timestamp TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    details TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (owner, session_id, seq),
    UNIQUE (owner, session_id, id),
    FOREIGN KEY (owner, session_id) REFERENCES chat_sessions (owner, id) ON DELETE CASCADE
);

CREATE TABLE tutor_turns (
    owner VARCHAR COLLATE "C" NOT NULL,
    id VARCHAR COLLATE "C" NOT NULL,
    session_id VARCHAR COLLATE "C" NOT NULL,
    status VARCHAR NOT NULL,
    idempotency_key VARCHAR COLLATE "C",
    lease_until BIGINT NOT NULL,
    partial TEXT,
    details TEXT NOT NULL,
    PRIMARY KEY (owner, id),
    UNIQUE (owner, idempotency_key),
    FOREIGN KEY (owner, session_id) REFERENCES chat_sessions (owner, id) ON DELETE CASCADE
);

CREATE TABLE tutor_records (
    kind BYTEA NOT NULL,
    key BYTEA NOT NULL,
    value BYTEA NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (kind, key)
);

CREATE SEQUENCE tutor_record_versions;

CREATE INDEX tutor_sessions_by_time ON chat_sessions (owner, updated_at, id);

CREATE INDEX tutor_turns_by_session ON tutor_turns (owner, session_id, id);

CREATE INDEX tutor_turns_running ON tutor_turns (owner, id) WHERE status = 'running';

INSERT INTO chat_sessions (id, title, created_at, updated_at, details)
SELECT new_id, title, created_at, updated_at,
    CASE WHEN new_id = id THEN '{}'
        ELSE json_build_object('metadata', json_build_object('seed_id', id))::TEXT END
FROM seed_sessions;

INSERT INTO messages (session_id, seq, id, parent_id, role, content, timestamp, details)
SELECT session_id, row_number() OVER line - 1, id, lag(id) OVER line, role, content, time,
    json_build_object('author', CASE role WHEN 'user' THEN 'learner' ELSE 'tutor' END, 'metadata', metadata)::TEXT
FROM (
    SELECT s.new_id AS session_id, m.new_id AS id, m.content, m.place,
        coalesce(m.timestamp, s.created_at) AS time,
        CASE WHEN lower(trim(m.role)) IN ('user', 'assistant', 'system') THEN lower(trim(m.role))
            ELSE 'assistant' END AS role,
        CASE WHEN m.new_id = m.id AND m.role IN ('user', 'assistant', 'system') THEN '{}'::JSON
            ELSE json_build_object('seed_id', m.id, 'seed_role', m.role) END AS metadata
    FROM seed_messages m JOIN seed_sessions s ON s.id = m.session_id
) AS kept
WINDOW line AS (PARTITION BY session_id ORDER BY time, place);

UPDATE chat_sessions SET
    message_count = (SELECT count(*) FROM messages m WHERE m.owner = chat_sessions.owner AND m.session_id = chat_sessions.id),
    next_seq = (SELECT count(*) FROM messages m WHERE m.owner = chat_sessions.owner AND m.session_id = chat_sessions.id),
    head = (SELECT m.id FROM messages m WHERE m.owner = chat_sessions.owner AND m.session_id = chat_sessions.id
        ORDER BY m.seq DESC LIMIT 1);

-- Messages of no conversation, which the original did not show either: SQLAlchemy leaves those of
-- deleted conversations behind.
CREATE TABLE tutor_orphaned_messages (
    id VARCHAR NOT NULL PRIMARY KEY,
    session_id VARCHAR,
    role VARCHAR NOT NULL,
    content TEXT NOT NULL,
    timestamp TIMESTAMP WITHOUT TIME ZONE
);

INSERT INTO tutor_orphaned_messages (id, session_id, role, content, timestamp)
SELECT id, session_id, role, content, timestamp FROM seed_messages m
WHERE NOT EXISTS (SELECT 1 FROM seed_sessions s WHERE s.id = m.session_id);

DROP TABLE seed_messages;

DROP TABLE seed_sessions;
