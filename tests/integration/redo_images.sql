-- Page images of each compression: whole pages, pages with holes, pages that do not compress.
\set ON_ERROR_STOP 1
SELECT setseed(0.3);
CREATE TABLE pictures (id int PRIMARY KEY, n int, t text) WITH (fillfactor = 80);
CREATE INDEX pictures_n ON pictures (n);
INSERT INTO pictures SELECT g, g % 100, repeat('a', g % 90) FROM generate_series(1, 8000) g;
CREATE TABLE noise (b bytea);
ALTER TABLE noise ALTER b SET STORAGE PLAIN;
INSERT INTO noise SELECT decode(string_agg(md5(random()::text), ''), 'hex') FROM generate_series(1, 24000) g
  GROUP BY g % 200;
CHECKPOINT;
UPDATE pictures SET t = t || '.' WHERE id % 3 = 0;
UPDATE noise SET b = b;
VACUUM pictures;
CHECKPOINT;
DELETE FROM pictures WHERE id % 4 = 0;
DELETE FROM noise;
CREATE INDEX pictures_t ON pictures (t);
CREATE INDEX pictures_hash ON pictures USING hash (n);
VACUUM;
