CREATE TABLE redisidem_key (name TEXT NOT NULL PRIMARY KEY, fence INTEGER NOT NULL, changed_at INTEGER NOT NULL);
CREATE INDEX redisidem_key_changed ON redisidem_key (changed_at);
CREATE TABLE redisidem_visit (name TEXT NOT NULL, ordinal INTEGER NOT NULL, key_name TEXT NOT NULL, record_created_at INTEGER NOT NULL, revision INTEGER NOT NULL, outcome BLOB NOT NULL, committed_at INTEGER NOT NULL, PRIMARY KEY (name, ordinal));
CREATE INDEX redisidem_visit_key ON redisidem_visit (key_name);
CREATE TABLE redisidem_outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, key_name TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL, created_at INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0, not_before INTEGER NOT NULL DEFAULT 0);
CREATE INDEX redisidem_outbox_key ON redisidem_outbox (key_name, id);
CREATE TABLE redisidem_relay (name TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, expires_at INTEGER NOT NULL);
INSERT INTO redisidem_relay (name, owner, expires_at) VALUES ('outbox', '', 0);
