CREATE TABLE redisidem_key (name TEXT NOT NULL PRIMARY KEY, fence BIGINT NOT NULL, changed_at BIGINT NOT NULL);
CREATE INDEX redisidem_key_changed ON redisidem_key (changed_at);
CREATE TABLE redisidem_visit (name CHAR(36) NOT NULL, ordinal BIGINT NOT NULL, key_name TEXT NOT NULL, record_created_at BIGINT NOT NULL, revision BIGINT NOT NULL, outcome BYTEA NOT NULL, committed_at BIGINT NOT NULL, PRIMARY KEY (name, ordinal));
CREATE INDEX redisidem_visit_key ON redisidem_visit (key_name);
CREATE TABLE redisidem_outbox (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key_name TEXT NOT NULL, topic TEXT NOT NULL, payload BYTEA NOT NULL, created_at BIGINT NOT NULL, failures INTEGER NOT NULL DEFAULT 0, not_before BIGINT NOT NULL DEFAULT 0);
CREATE INDEX redisidem_outbox_key ON redisidem_outbox (key_name, id);
CREATE TABLE redisidem_relay (name TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, expires_at BIGINT NOT NULL);
INSERT INTO redisidem_relay (name, owner, expires_at) VALUES ('outbox', '', 0);
