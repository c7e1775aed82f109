-- What redo_consistency.sql does not reach: databases, truncation, relations that come and go,
-- unlogged tables, multixacts, large subtransaction trees, moved tablespaces.
\set ON_ERROR_STOP on
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE here LOCATION '';
CREATE TABLE moved (a int, b text);
INSERT INTO moved SELECT g, repeat('m', 50) FROM generate_series(1, 5000) g;
ALTER TABLE moved SET TABLESPACE here;
UPDATE moved SET a = a + 1 WHERE a % 3 = 0;

CREATE TABLE shrinks (a int PRIMARY KEY, b text);
INSERT INTO shrinks SELECT g, repeat('s', 200) FROM generate_series(1, 20000) g;
VACUUM (FREEZE) shrinks;
DELETE FROM shrinks WHERE a > 100;
VACUUM shrinks;
INSERT INTO shrinks SELECT g, repeat('t', 200) FROM generate_series(1000, 9000) g;
DELETE FROM shrinks WHERE a > 500;
VACUUM shrinks;
TRUNCATE shrinks;
INSERT INTO shrinks SELECT g, repeat('u', 100) FROM generate_series(1, 3000) g;
BEGIN;
TRUNCATE shrinks;
INSERT INTO shrinks VALUES (1, 'gone');
ROLLBACK;

BEGIN;
CREATE TABLE never (a int);
INSERT INTO never SELECT generate_series(1, 10000);
ROLLBACK;
CREATE TABLE dropped (a int, b text);
INSERT INTO dropped SELECT g, repeat('d', 3000) FROM generate_series(1, 300) g;
DROP TABLE dropped;

CREATE UNLOGGED TABLE forgets (a int PRIMARY KEY, b text);
INSERT INTO forgets SELECT g, 'x' FROM generate_series(1, 1000) g;
CREATE UNLOGGED TABLE remembers (a int PRIMARY KEY, b text);
INSERT INTO remembers SELECT g, 'x' FROM generate_series(1, 1000) g;
ALTER TABLE remembers SET LOGGED;

CREATE TABLE locked (a int PRIMARY KEY, b int);
INSERT INTO locked SELECT g, 0 FROM generate_series(1, 500) g;
DO $$
BEGIN
    FOR i IN 1..400 LOOP
        BEGIN
            UPDATE locked SET b = b + 1 WHERE a = i;
            PERFORM 1 FROM locked WHERE a = i + 1 FOR SHARE;
            IF i % 7 = 0 THEN
                RAISE EXCEPTION 'undo';
            END IF;
        EXCEPTION WHEN raise_exception THEN
            NULL;
        END;
    END LOOP;
END $$;

BEGIN;
INSERT INTO locked VALUES (10001, 1);
PREPARE TRANSACTION 'kept';
BEGIN;
INSERT INTO locked VALUES (10002, 1);
PREPARE TRANSACTION 'committed';
COMMIT PREPARED 'committed';

CREATE DATABASE copied STRATEGY file_copy;
CREATE DATABASE logged STRATEGY wal_log;
CREATE DATABASE elsewhere STRATEGY wal_log TABLESPACE here;
CREATE DATABASE away STRATEGY file_copy;
\c away
CREATE TABLE lost AS SELECT generate_series(1, 1000) a;
\c copied
CREATE TABLE after_copy AS SELECT g a, repeat('c', 100) b FROM generate_series(1, 5000) g;
UPDATE pg_description SET description = description WHERE objoid::bigint % 5 = 0;
VACUUM;
\c logged
CREATE TABLE after_copy AS SELECT g a, repeat('l', 100) b FROM generate_series(1, 5000) g;
VACUUM FULL pg_class;
VACUUM;
\c postgres
DROP DATABASE away;
ALTER DATABASE elsewhere SET TABLESPACE pg_default;
CHECKPOINT;
CREATE DATABASE again STRATEGY file_copy TEMPLATE copied;
\c again
INSERT INTO after_copy SELECT g, 'again' FROM generate_series(1, 2000) g;
\c postgres
REINDEX TABLE shrinks;
CLUSTER shrinks USING shrinks_pkey;
ROLLBACK PREPARED 'kept';
