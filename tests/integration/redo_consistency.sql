-- Reaches every resource manager whose records touch pages, and most of their record types.
\set ON_ERROR_STOP 1
CREATE EXTENSION bloom;
CREATE EXTENSION btree_gist;
CREATE EXTENSION pg_trgm;
SELECT setseed(0.1);

-- heap, toast, btree, one of each index
CREATE TABLE items (id bigserial PRIMARY KEY, n int, name text, tags int[], at point, span int4range, note text)
  WITH (fillfactor = 85);
CREATE INDEX items_n ON items (n);
CREATE INDEX items_name_n ON items (name, n);
CREATE INDEX items_n_hash ON items USING hash (n) WITH (fillfactor = 40);
CREATE INDEX items_tags ON items USING gin (tags) WITH (gin_pending_list_limit = 64);
CREATE INDEX items_tags_direct ON items USING gin (tags) WITH (fastupdate = off);
CREATE INDEX items_name_trgm ON items USING gin (name gin_trgm_ops);
CREATE INDEX items_at ON items USING gist (at);
CREATE INDEX items_span ON items USING gist (span, n);
CREATE INDEX items_at_sp ON items USING spgist (at);
CREATE INDEX items_at_kd ON items USING spgist (at kd_point_ops);
CREATE INDEX items_name_sp ON items USING spgist (name);
CREATE INDEX items_id_brin ON items USING brin (id) WITH (pages_per_range = 1);
CREATE INDEX items_n_brin ON items USING brin (n int4_minmax_multi_ops) WITH (pages_per_range = 3);
CREATE INDEX items_bloom ON items USING bloom (n, name);

CREATE PROCEDURE fill(count int, seed text) LANGUAGE sql AS $$
  INSERT INTO items (n, name, tags, at, span, note)
  SELECT (random() * 2000)::int, seed || '/' || md5((g % 700)::text) || repeat('-', g % 40),
         ARRAY[g % 9, g % 101, (random() * 3000)::int], point(random() * 90, g % 37),
         int4range(g, g + 1 + (random() * 60)::int), repeat(md5(g::text), g % 3)
  FROM generate_series(1, count) g
$$;
CALL fill(6000, 'http://one');
UPDATE items SET n = n + 1 WHERE id % 5 = 0;
UPDATE items SET note = note || '!' WHERE id % 4 = 1;
UPDATE items SET name = 'moved/' || name, at = point(id % 50, id % 70) WHERE id % 9 = 3;
VACUUM items;
DELETE FROM items WHERE id % 3 = 0;
VACUUM (FREEZE) items;
CALL fill(3000, 'two');
SELECT gin_clean_pending_list('items_tags');
SELECT brin_summarize_new_values('items_id_brin'), brin_summarize_new_values('items_n_brin');
SELECT brin_desummarize_range('items_id_brin', 3);
UPDATE items SET n = 1 WHERE id % 13 = 0;
DELETE FROM items WHERE id BETWEEN 1000 AND 5500;
VACUUM items;
VACUUM items;
CALL fill(3000, 'three');
SELECT brin_summarize_new_values('items_id_brin'), brin_summarize_new_values('items_n_brin');

-- row locks and multixacts
BEGIN; SELECT count(*) FROM (SELECT 1 FROM items WHERE id % 7 = 1 FOR UPDATE) s; ROLLBACK;
BEGIN; SELECT count(*) FROM (SELECT 1 FROM items WHERE id % 7 = 2 FOR SHARE) s;
SAVEPOINT a; SELECT count(*) FROM (SELECT 1 FROM items WHERE id % 7 = 2 FOR KEY SHARE) s;
SAVEPOINT b; UPDATE items SET note = 'locked' WHERE id % 7 = 2; COMMIT;

-- index tuples killed by scans, then removed by inserters; page deletion and reuse
SET enable_seqscan = off; SET enable_bitmapscan = off;
CREATE TABLE churn (k int, p point, t text);
CREATE INDEX churn_k ON churn (k);
CREATE INDEX churn_k_nodup ON churn (k, t) WITH (deduplicate_items = off);
CREATE INDEX churn_hash ON churn USING hash (k);
CREATE INDEX churn_gist ON churn USING gist (p);
INSERT INTO churn SELECT g % 3, point(g % 60, g / 60), 'x' FROM generate_series(1, 5000) g;
DELETE FROM churn WHERE k = 1;
SELECT count(t) FROM churn WHERE k = 1;
SELECT count(k) FROM churn WHERE p <@ box(point(0, 0), point(99, 99));
INSERT INTO churn SELECT g % 3, point(g % 60, g / 60), 'y' FROM generate_series(1, 5000) g;
DO $$ BEGIN FOR i IN 1..8 LOOP UPDATE churn SET t = 'r' || i WHERE k = 2; END LOOP; END $$;
INSERT INTO churn SELECT g, point(g, g), 'z' FROM generate_series(10, 20000) g;
DELETE FROM churn WHERE k BETWEEN 100 AND 19000;
VACUUM churn; VACUUM churn;
INSERT INTO churn SELECT 50 + g % 900, point(g, 1), 'again' FROM generate_series(1, 6000) g;
DELETE FROM churn; VACUUM churn;
INSERT INTO churn SELECT 7, point(g, g), repeat('s', g % 30) FROM generate_series(1, 3000) g;
RESET enable_seqscan; RESET enable_bitmapscan;

-- COPY (multi insert), COPY FREEZE, INSERT after it (clears visibility)
CREATE TABLE bulk (a int, b text);
COPY (SELECT g, repeat('b', g % 90) FROM generate_series(1, 12000) g) TO :'csv' CSV;
COPY bulk FROM :'csv' CSV;
COPY bulk FROM :'csv' CSV;
VACUUM bulk;
DELETE FROM bulk WHERE a % 4 = 0;
UPDATE bulk SET b = 'short' WHERE a % 5 = 0;
VACUUM bulk;
CREATE INDEX bulk_gin ON bulk USING gin (b gin_trgm_ops);
CREATE INDEX bulk_hash ON bulk USING hash (b);
CREATE INDEX bulk_spg ON bulk USING spgist (b);
CREATE INDEX bulk_brin ON bulk USING brin (a);
CREATE INDEX bulk_gist ON bulk USING gist (a);
CREATE INDEX bulk_bloom ON bulk USING bloom (a);
INSERT INTO bulk SELECT g, 'after ' || g FROM generate_series(1, 2000) g;
CREATE TABLE frozen (a int, b text);
BEGIN; TRUNCATE frozen; COPY frozen FROM :'csv' CSV FREEZE; COMMIT;
DELETE FROM frozen WHERE a < 400;
UPDATE frozen SET b = 'thawed' WHERE a % 60 = 1;
SELECT count(*) FROM (SELECT 1 FROM frozen WHERE a % 61 = 2 FOR UPDATE) s;
VACUUM frozen;

-- toast, speculative insertion, sequences, two-phase, unlogged init forks, in-place catalog updates
CREATE TABLE wide (id int PRIMARY KEY, t text);
ALTER TABLE wide ALTER t SET STORAGE EXTERNAL;
INSERT INTO wide SELECT g, repeat(md5(g::text), 300) FROM generate_series(1, 150) g;
UPDATE wide SET t = t || '.' WHERE id % 2 = 0; DELETE FROM wide WHERE id % 5 = 0; VACUUM wide;
CREATE TABLE once (id int PRIMARY KEY, v int);
INSERT INTO once SELECT g % 300, g FROM generate_series(1, 600) g ON CONFLICT DO NOTHING;
DO $$ BEGIN FOR i IN 1..600 LOOP
  INSERT INTO once VALUES (i % 400, i) ON CONFLICT (id) DO UPDATE SET v = excluded.v; END LOOP; END $$;
CREATE SEQUENCE ticket;
SELECT count(nextval('ticket')) FROM generate_series(1, 500); SELECT setval('ticket', 9000);
SELECT nextval('ticket'); ALTER SEQUENCE ticket RESTART 3; SELECT nextval('ticket');
BEGIN; UPDATE once SET v = -v; PREPARE TRANSACTION 'one'; COMMIT PREPARED 'one';
BEGIN; DELETE FROM once WHERE id % 2 = 0; PREPARE TRANSACTION 'two'; ROLLBACK PREPARED 'two';
-- a newer version locked along with the old one, whose update is not yet decided
BEGIN; UPDATE once SET v = v + 1 WHERE id < 100; PREPARE TRANSACTION 'three';
BEGIN; SELECT count(*) FROM (SELECT 1 FROM once WHERE id < 50 FOR KEY SHARE) s; COMMIT;
COMMIT PREPARED 'three';
CREATE UNLOGGED TABLE light (id int PRIMARY KEY, a int[], p point, t text);
CREATE INDEX ON light USING gin (a); CREATE INDEX ON light USING gist (p);
CREATE INDEX ON light USING spgist (t); CREATE INDEX ON light USING hash (id);
CREATE INDEX ON light USING brin (id); CREATE INDEX ON light USING bloom (id);
INSERT INTO light SELECT g FROM generate_series(1, 50) g;
CLUSTER items USING items_pkey; REINDEX TABLE churn; VACUUM FULL bulk;
CREATE MATERIALIZED VIEW shown AS SELECT * FROM items; REFRESH MATERIALIZED VIEW shown;
CREATE DATABASE sister TEMPLATE template1 STRATEGY wal_log;
ANALYZE;

-- small indexes that split all the way up, gin posting trees, gist and spgist deletions
CREATE TABLE tree (id int, a int[], p point, t text);
CREATE INDEX tree_gin ON tree USING gin (a);
CREATE INDEX tree_gist ON tree USING gist (p);
CREATE INDEX tree_spg ON tree USING spgist (t);
INSERT INTO tree SELECT g, ARRAY[5, g % 50, g], point(random() * 100, random() * 100),
  'long/prefix/' || repeat(chr(97 + g % 26), g % 60) || g FROM generate_series(1, 15000) g;
DELETE FROM tree WHERE id % 2 = 0; VACUUM tree;
DELETE FROM tree WHERE id < 14000; VACUUM tree; VACUUM tree;
INSERT INTO tree SELECT g, ARRAY[5, g], point(g % 10, g % 11), 'new/' || g FROM generate_series(1, 4000) g;
VACUUM (FREEZE);
CHECKPOINT;
UPDATE items SET n = n - 1 WHERE id % 6 = 0; UPDATE tree SET t = t || '+' WHERE id % 8 = 0;
INSERT INTO churn SELECT g, point(g, 2), 'late' FROM generate_series(1, 1500) g;
