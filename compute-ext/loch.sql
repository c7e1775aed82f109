-- The schema `loch`, made in template1 and postgres of every new tenant. Functions name the library
-- without a path: dynamic_library_path on the server's command line finds it.
CREATE SCHEMA loch;
GRANT USAGE ON SCHEMA loch TO PUBLIC;

CREATE FUNCTION loch.version() RETURNS text LANGUAGE c STABLE PARALLEL SAFE AS 'loch', 'loch_version';

CREATE FUNCTION loch.counters(OUT name text, OUT value bigint, OUT help text) RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'loch', 'loch_counters';

CREATE VIEW loch.stats AS SELECT name, value, help FROM loch.counters();
GRANT SELECT ON loch.stats TO PUBLIC;
