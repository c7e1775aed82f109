-- Functions of a test build (LOCH_TEST_SWITCHES) that the compute's tests use.
CREATE SCHEMA IF NOT EXISTS t;
CREATE OR REPLACE FUNCTION t.evict(regclass) RETURNS void LANGUAGE c AS 'loch', 'loch_test_evict';
CREATE OR REPLACE FUNCTION t.extend_zero(regclass) RETURNS void LANGUAGE c AS 'loch', 'loch_test_extend_zero';
CREATE OR REPLACE FUNCTION t.last_lsn(regclass, int) RETURNS pg_lsn LANGUAGE c AS 'loch', 'loch_test_last_lsn';
CREATE OR REPLACE FUNCTION t.use_file_number(oid) RETURNS void LANGUAGE c AS 'loch', 'loch_test_use_file_number';
CREATE OR REPLACE FUNCTION t.copy_amid_forgetting() RETURNS void LANGUAGE c AS 'loch', 'loch_test_copy_amid_forgetting';
CREATE OR REPLACE FUNCTION t.throttle_rounds() RETURNS bigint LANGUAGE c AS 'loch', 'loch_test_throttle_rounds';
CREATE OR REPLACE FUNCTION t.cache_fault(bigint, int) RETURNS void LANGUAGE c AS 'loch', 'loch_test_cache_fault';
CREATE OR REPLACE FUNCTION t.cache_damage() RETURNS void LANGUAGE c AS 'loch', 'loch_test_cache_damage';
CREATE OR REPLACE FUNCTION t.cache_counter(bigint) RETURNS void LANGUAGE c AS 'loch', 'loch_test_cache_counter';
CREATE OR REPLACE FUNCTION t.pause_at(int, int) RETURNS void LANGUAGE c AS 'loch', 'loch_test_pause_at';
CREATE OR REPLACE FUNCTION t.is_paused() RETURNS bool LANGUAGE c AS 'loch', 'loch_test_is_paused';
CREATE OR REPLACE FUNCTION t.resume() RETURNS void LANGUAGE c AS 'loch', 'loch_test_resume';
CREATE OR REPLACE FUNCTION t.write_map(regclass) RETURNS void LANGUAGE c AS 'loch', 'loch_test_write_map';
CREATE OR REPLACE FUNCTION t.evict_map(regclass) RETURNS void LANGUAGE c AS 'loch', 'loch_test_evict_map';
