-- Of all other columns of a row. Rows without one, such as those that people write by hand, are
-- taken as they are; those that are here now get theirs next.
ALTER TABLE chat_sessions ADD COLUMN checksum BIGINT;

ALTER TABLE messages ADD COLUMN checksum BIGINT;

ALTER TABLE tutor_turns ADD COLUMN checksum BIGINT;

ALTER TABLE tutor_records ADD COLUMN checksum BIGINT;
