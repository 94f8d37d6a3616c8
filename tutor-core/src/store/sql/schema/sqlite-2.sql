ALTER TABLE messages RENAME TO seed_messages;

ALTER TABLE chat_sessions RENAME TO seed_sessions;

ALTER TABLE seed_sessions ADD COLUMN new_id VARCHAR;

ALTER TABLE seed_messages ADD COLUMN new_id VARCHAR;

-- Ids as they are, unless nobody could write them in a URL.
UPDATE seed_sessions SET new_id =
    CASE WHEN length(id) BETWEEN 1 AND 128 AND id NOT GLOB '*[^-A-Za-z0-9._~@:+]*' AND trim(id, '.') <> ''
    THEN id ELSE 'seed-' || rowid END;

UPDATE seed_messages SET new_id =
    CASE WHEN length(id) BETWEEN 1 AND 128 AND id NOT GLOB '*[^-A-Za-z0-9._~@:+]*' AND trim(id, '.') <> ''
    THEN id ELSE 'seed-' || rowid END;

-- Times as SQLAlchemy writes them; what is no time is as if it were absent.
UPDATE seed_messages SET timestamp = strftime('%Y-%m-%d %H:%M:%f', timestamp) || '000'
WHERE length(timestamp) <> 26 OR substr(timestamp, 1, 19) IS NOT strftime('%Y-%m-%d %H:%M:%S', timestamp)
    OR substr(timestamp, 20) NOT GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]';

UPDATE seed_sessions SET created_at = strftime('%Y-%m-%d %H:%M:%f', created_at) || '000'
WHERE length(created_at) <> 26 OR substr(created_at, 1, 19) IS NOT strftime('%Y-%m-%d %H:%M:%S', created_at)
    OR substr(created_at, 20) NOT GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]';

UPDATE seed_sessions SET updated_at = strftime('%Y-%m-%d %H:%M:%f', updated_at) || '000'
WHERE length(updated_at) <> 26 OR substr(updated_at, 1, 19) IS NOT strftime('%Y-%m-%d %H:%M:%S', updated_at)
    OR substr(updated_at, 20) NOT GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]';

UPDATE seed_sessions SET created_at = coalesce(
    created_at,
    (SELECT min(timestamp) FROM seed_messages WHERE session_id = seed_sessions.id),
    updated_at,
    '1970-01-01 00:00:00.000000');

UPDATE seed_sessions SET updated_at = coalesce(
    updated_at,
    (SELECT max(timestamp) FROM seed_messages WHERE session_id = seed_sessions.id),
    created_at);

CREATE TABLE chat_sessions (
    owner VARCHAR NOT NULL DEFAULT 'local',
    id VARCHAR NOT NULL,
    title VARCHAR NOT NULL,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    message_count BIGINT NOT NULL DEFAULT 0,
    next_seq BIGINT NOT NULL DEFAULT 0,
    head VARCHAR,
    running_turn VARCHAR,
    forked BIGINT NOT NULL DEFAULT 0,
    details TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (owner, id)
);

CREATE TABLE messages (
    owner VARCHAR NOT NULL DEFAULT 'local',
    id VARCHAR NOT NULL,
    session_id VARCHAR NOT NULL,
    seq BIGINT NOT NULL,
    parent_id VARCHAR,
    turn_id VARCHAR,
    role VARCHAR NOT NULL,
    content TEXT NOT NULL,
    timestamp DATETIME NOT NULL,
    details TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (owner, session_id, seq),
    UNIQUE (owner, session_id, id),
    FOREIGN KEY (owner, session_id) REFERENCES chat_sessions (owner, id) ON DELETE CASCADE
);

CREATE TABLE tutor_turns (
    owner VARCHAR NOT NULL,
    id VARCHAR NOT NULL,
    session_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    idempotency_key VARCHAR,
    lease_until BIGINT NOT NULL,
    partial TEXT,
    details TEXT NOT NULL,
    PRIMARY KEY (owner, id),
    UNIQUE (owner, idempotency_key),
    FOREIGN KEY (owner, session_id) REFERENCES chat_sessions (owner, id) ON DELETE CASCADE
);

CREATE TABLE tutor_records (
    kind BLOB NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (kind, key)
);

CREATE TABLE tutor_record_versions (latest BIGINT NOT NULL);

INSERT INTO tutor_record_versions (latest) VALUES (0);

CREATE INDEX tutor_sessions_by_time ON chat_sessions (owner, updated_at, id);

CREATE INDEX tutor_turns_by_session ON tutor_turns (owner, session_id, id);

CREATE INDEX tutor_turns_running ON tutor_turns (owner, id) WHERE status = 'running';

INSERT INTO chat_sessions (id, title, created_at, updated_at, details)
SELECT new_id, title, created_at, updated_at,
    CASE WHEN new_id = id THEN '{}' ELSE json_object('metadata', json_object('seed_id', id)) END
FROM seed_sessions;

INSERT INTO messages (session_id, seq, id, parent_id, role, content, timestamp, details)
SELECT session_id, row_number() OVER line - 1, id, lag(id) OVER line, role, content, time,
    json_object('author', CASE role WHEN 'user' THEN 'learner' ELSE 'tutor' END, 'metadata', json(metadata))
FROM (
    SELECT s.new_id AS session_id, m.new_id AS id, m.content, m.rowid AS place,
        coalesce(m.timestamp, s.created_at) AS time,
        CASE WHEN lower(trim(m.role)) IN ('user', 'assistant', 'system') THEN lower(trim(m.role))
            ELSE 'assistant' END AS role,
        CASE WHEN m.new_id = m.id AND m.role IN ('user', 'assistant', 'system') THEN '{}'
            ELSE json_object('seed_id', m.id, 'seed_role', m.role) END AS metadata
    FROM seed_messages m JOIN seed_sessions s ON s.id = m.session_id
)
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
    timestamp DATETIME
);

INSERT INTO tutor_orphaned_messages (id, session_id, role, content, timestamp)
SELECT id, session_id, role, content, timestamp FROM seed_messages m
WHERE NOT EXISTS (SELECT 1 FROM seed_sessions s WHERE s.id = m.session_id);

DROP TABLE seed_messages;

DROP TABLE seed_sessions;
