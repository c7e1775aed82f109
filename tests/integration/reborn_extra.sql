-- What changes keys other than pages: files that come and go, maps, SLRUs, databases, tablespaces.
\set ON_ERROR_STOP 1
CREATE TABLE shrink (id int PRIMARY KEY, t text);
INSERT INTO shrink SELECT g, repeat('s', 400) FROM generate_series(1, 9000) g;
VACUUM shrink;
DELETE FROM shrink WHERE id > 500; VACUUM shrink;             -- truncates all three forks
INSERT INTO shrink SELECT g, 'again' FROM generate_series(1000, 4000) g;
CREATE TABLE emptied (id int PRIMARY KEY, t text);
INSERT INTO emptied SELECT g, 'x' FROM generate_series(1, 3000) g; VACUUM emptied;
TRUNCATE emptied; INSERT INTO emptied VALUES (1, 'only'); VACUUM emptied;
CREATE TABLE dropped AS SELECT g FROM generate_series(1, 3000) g; DROP TABLE dropped;
BEGIN; CREATE TABLE never AS SELECT g FROM generate_series(1, 1000) g; ROLLBACK;
BEGIN; TRUNCATE shrink; INSERT INTO shrink VALUES (1, 'undone'); ROLLBACK;
BEGIN; SAVEPOINT a; INSERT INTO shrink VALUES (-1, 'sub'); SAVEPOINT b; INSERT INTO shrink VALUES (-2, 'gone');
ROLLBACK TO b; RELEASE a; COMMIT;
DO $$ BEGIN FOR i IN 1..200 LOOP BEGIN INSERT INTO shrink VALUES (-100 - i, 'many subtransactions');
  EXCEPTION WHEN unique_violation THEN NULL; END; END LOOP; END $$;
VACUUM FULL pg_class; VACUUM FULL pg_attribute; REINDEX SYSTEM postgres; -- relation maps
CREATE TABLESPACE inside LOCATION ''; CREATE TABLESPACE brief LOCATION '';
CREATE TABLE placed (id int PRIMARY KEY) TABLESPACE inside; INSERT INTO placed SELECT generate_series(1, 2000);
ALTER TABLE emptied SET TABLESPACE inside;
DROP TABLESPACE brief;
CREATE DATABASE filed STRATEGY file_copy;
CREATE DATABASE logged STRATEGY wal_log TEMPLATE template0;
CREATE DATABASE temporary STRATEGY file_copy; DROP DATABASE temporary;
CREATE DATABASE moved TABLESPACE inside STRATEGY file_copy;
ALTER DATABASE moved SET TABLESPACE pg_default;
\c filed
CREATE TABLE here (id int PRIMARY KEY, t text); INSERT INTO here SELECT g, g FROM generate_series(1, 5000) g;
VACUUM FULL pg_class;
\c moved
CREATE TABLE there AS SELECT g FROM generate_series(1, 500) g;
\c postgres
SELECT pg_replication_origin_create('upstream');
SELECT pg_replication_origin_session_setup('upstream');
BEGIN; SELECT pg_replication_origin_xact_setup('0/12345678', now()); INSERT INTO shrink VALUES (-50, 'o'); COMMIT;
SELECT pg_replication_origin_session_reset();
-- what is prepared, and how it ends, counts as applied as well
SELECT pg_replication_origin_create(o) FROM unnest(ARRAY['waits', 'done', 'undone']) o;
SELECT pg_replication_origin_session_setup('waits');
BEGIN; SELECT pg_replication_origin_xact_setup('0/5000', now()); INSERT INTO shrink VALUES (-62, 'o');
PREPARE TRANSACTION 'of an origin';
SELECT pg_replication_origin_session_reset(), pg_replication_origin_session_setup('done');
BEGIN; SELECT pg_replication_origin_xact_setup('0/6000', now()); INSERT INTO shrink VALUES (-63, 'o');
PREPARE TRANSACTION 'done'; SELECT pg_replication_origin_xact_setup('0/6100', now()); COMMIT PREPARED 'done';
SELECT pg_replication_origin_session_reset(), pg_replication_origin_session_setup('undone');
BEGIN; SELECT pg_replication_origin_xact_setup('0/7000', now()); INSERT INTO shrink VALUES (-64, 'o');
PREPARE TRANSACTION 'undone'; SELECT pg_replication_origin_xact_setup('0/7100', now()); ROLLBACK PREPARED 'undone';
SELECT pg_replication_origin_session_reset();
SELECT pg_replication_origin_create('gone'), pg_replication_origin_advance('gone', '0/99');
SELECT pg_replication_origin_drop('gone');
BEGIN; INSERT INTO shrink VALUES (-60, 'prepared'); SAVEPOINT x; UPDATE shrink SET t = 'p' WHERE id = -1;
PREPARE TRANSACTION 'left waiting';
BEGIN; CREATE TABLE promised AS SELECT g FROM generate_series(1, 400) g; PREPARE TRANSACTION 'also';
BEGIN; INSERT INTO shrink VALUES (-61, 'x'); PREPARE TRANSACTION 'no'; ROLLBACK PREPARED 'no';
CHECKPOINT;
CREATE UNLOGGED TABLE faint (id int PRIMARY KEY, t text); INSERT INTO faint SELECT g, g FROM generate_series(1, 500) g;
ALTER TABLE emptied SET UNLOGGED; ALTER TABLE emptied SET LOGGED;
DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$;
VACUUM (FREEZE);
