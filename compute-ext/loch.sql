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

-- How far storage is behind, and why writers are slowed when they are.
CREATE FUNCTION loch.lag_state(OUT insert_lsn pg_lsn, OUT commit_lsn pg_lsn, OUT pageserver_ingested_lsn pg_lsn, OUT pageserver_persisted_lsn pg_lsn,
    OUT pageserver_remote_lsn pg_lsn, OUT ingest_lag_bytes bigint, OUT persist_lag_bytes bigint, OUT pageserver_answered_at timestamptz,
    OUT writers_wait_us bigint, OUT writers_slowed boolean, OUT why text) LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'loch', 'loch_lag';
CREATE VIEW loch.lag AS SELECT l.*, l.insert_lsn - l.commit_lsn AS commit_lag_bytes FROM loch.lag_state() l;

CREATE FUNCTION loch.safekeeper_list(OUT number text, OUT address text, OUT state text, OUT away_s text, OUT write_lsn text, OUT flush_lsn text, OUT why text)
    RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'loch', 'loch_safekeepers';
CREATE VIEW loch.safekeepers AS
    SELECT number::int, address, state, away_s::bigint, write_lsn::pg_lsn, flush_lsn::pg_lsn, greatest(l.insert_lsn - flush_lsn::pg_lsn, 0) AS lag_bytes, s.why
    FROM loch.safekeeper_list() s, loch.lag_state() l;

CREATE FUNCTION loch.connection_list(OUT pid integer, OUT connected_since timestamptz, OUT connects bigint, OUT pages_read bigint, OUT average_read_us bigint,
    OUT last_read_us bigint, OUT longest_read_us bigint) RETURNS SETOF record LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'loch', 'loch_connections';
CREATE VIEW loch.connections AS SELECT * FROM loch.connection_list();

CREATE VIEW loch.prefetch AS
    SELECT s.*, round(100.0 * used / nullif(used + stale + dropped, 0), 1) AS used_percent
    FROM (SELECT sum(value) FILTER (WHERE name = 'read_ahead_sent') AS sent, sum(value) FILTER (WHERE name = 'read_ahead_used') AS used,
                 sum(value) FILTER (WHERE name = 'read_ahead_stale') AS stale, sum(value) FILTER (WHERE name = 'read_ahead_dropped') AS dropped
          FROM loch.counters()) s;

-- Pages whose newest copy is here, by reason, and what spared one.
CREATE VIEW loch.kept_pages AS
    SELECT regexp_replace(name, '^spill_', '') AS reason, value AS times, help FROM loch.counters() WHERE name LIKE 'spill\_%'
    UNION ALL SELECT name, value, help FROM loch.counters() WHERE name IN ('cid_overlay_put', 'cid_overlay_applied', 'unspill');

CREATE FUNCTION loch.last_written_lsn(relation regclass, block bigint DEFAULT 0) RETURNS pg_lsn LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'loch', 'loch_last_written';

GRANT SELECT ON loch.lag, loch.safekeepers, loch.connections, loch.prefetch, loch.kept_pages TO PUBLIC;
