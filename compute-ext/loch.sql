-- The schema `loch`, made in template1 and postgres of every new tenant. Functions name the library
-- without a path: dynamic_library_path on the server's command line finds it.
CREATE SCHEMA loch;
GRANT USAGE ON SCHEMA loch TO PUBLIC;

CREATE FUNCTION loch.version() RETURNS text LANGUAGE c STABLE PARALLEL SAFE AS 'loch', 'loch_version';

CREATE FUNCTION loch.counters(OUT name text, OUT value bigint, OUT help text) RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'loch', 'loch_counters';

CREATE VIEW loch.stats AS SELECT name, value, help FROM loch.counters();
GRANT SELECT ON loch.stats TO PUBLIC;

CREATE FUNCTION loch.backend_counters(OUT pid integer, OUT name text, OUT value bigint) RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'loch', 'loch_backend_counters';
CREATE VIEW loch.backend_stats AS SELECT pid, name, value FROM loch.backend_counters();
GRANT SELECT ON loch.backend_stats TO PUBLIC;

CREATE FUNCTION loch.cache_state(OUT is_on boolean, OUT size_bytes bigint, OUT used_bytes bigint, OUT max_bytes bigint, OUT blocks_sealed bigint) LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'loch', 'loch_cache';
CREATE VIEW loch.cache AS
    SELECT c.*, s.hits, s.misses, s.stale, s.filled, s.evicted, s.switched_off, round(100.0 * s.hits / nullif(s.hits + s.misses, 0), 1) AS hit_percent
    FROM loch.cache_state() c,
        (SELECT sum(value) FILTER (WHERE name = 'cache_hit') AS hits, sum(value) FILTER (WHERE name = 'cache_miss') AS misses,
                sum(value) FILTER (WHERE name = 'cache_stale') AS stale, sum(value) FILTER (WHERE name = 'cache_filled') AS filled,
                sum(value) FILTER (WHERE name = 'cache_evicted') AS evicted, sum(value) FILTER (WHERE name = 'cache_switched_off') AS switched_off
         FROM loch.counters()) s;
GRANT SELECT ON loch.cache TO PUBLIC;
