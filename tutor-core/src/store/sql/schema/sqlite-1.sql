CREATE TABLE tutor_migrations (
    version BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR NOT NULL,
    applied_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS chat_sessions (
    id VARCHAR NOT NULL,
    title VARCHAR NOT NULL,
    created_at DATETIME,
    updated_at DATETIME,
    PRIMARY KEY (id)
);

CREATE TABLE IF NOT EXISTS messages (
    id VARCHAR NOT NULL,
    session_id VARCHAR,
    role VARCHAR NOT NULL,
    content TEXT NOT NULL,
    timestamp DATETIME,
    PRIMARY KEY (id),
    FOREIGN KEY (session_id) REFERENCES chat_sessions (id)
);
