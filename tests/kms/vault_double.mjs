// A double of Vault's transit engine and of the token endpoints, for tests; written from the API's documentation. It binds
// ciphertexts to key and associated data (AES-256-GCM), knows namespaces, policies and token lifetimes, and misbehaves on demand:
//   POST /_control {"reset": true} | {"latency_ms": N, "sealed": true, ...}   answers the counts
// node vault_double.mjs PORT
import http from 'node:http';
import crypto from 'node:crypto';

const NAMESPACE = 'team/loch';
const NO_FAULTS = {
  latency_ms: 0, silent: false, errors: 0, throttles: 0, sealed: false, policy_denies: false, wrong_plaintext: false,
  garbage: false, unmounted: false, unknown_error: false,
};

let keys = new Map();
let tokens = new Map();
let faults = { ...NO_FAULTS };
let counts = {};

class Refusal extends Error {
  constructor(status, ...errors) {
    super(errors.join(', '));
    this.status = status;
    this.errors = errors;
  }
}

const newKey = () => ({ versions: [crypto.randomBytes(32)], least: 1 });
const count = (name) => { counts[name] = (counts[name] || 0) + 1; };

function tokenOf(req) {
  const token = tokens.get(req.headers['x-vault-token']);
  if (!token || (token.ends && token.ends < Date.now())) throw new Refusal(403, 'permission denied', 'invalid token');
  return token;
}

function keyOf(name, create) {
  if (faults.unmounted) throw new Refusal(404, 'no handler for route "transit/decrypt/x". route entry not found.');
  const key = keys.get(name);
  if (!key && create) throw new Refusal(403, '1 error occurred:\n\t* permission denied\n\n'); // it would have to create
  if (!key) throw new Refusal(400, 'encryption key not found');
  return key;
}

function encrypt(name, q) {
  const key = keyOf(name, true);
  const iv = crypto.randomBytes(12);
  const cipher = crypto.createCipheriv('aes-256-gcm', key.versions.at(-1), iv);
  cipher.setAAD(Buffer.from(q.associated_data || '', 'base64'));
  const sealed = Buffer.concat([iv, cipher.update(Buffer.from(q.plaintext, 'base64')), cipher.final(), cipher.getAuthTag()]);
  return { ciphertext: `vault:v${key.versions.length}:${sealed.toString('base64')}`, key_version: key.versions.length };
}

function decrypt(name, q) {
  const key = keyOf(name, false);
  const parts = String(q.ciphertext).match(/^vault:v(\d+):([A-Za-z0-9+/=]+)$/);
  if (!parts) throw new Refusal(400, 'invalid ciphertext: no prefix');
  const version = Number(parts[1]);
  if (version < key.least) throw new Refusal(400, 'ciphertext or signature version is disallowed by policy (too old)');
  const sealed = Buffer.from(parts[2], 'base64');
  if (!key.versions[version - 1] || sealed.length < 28) throw new Refusal(400, 'invalid ciphertext: wrong length');
  const decipher = crypto.createDecipheriv('aes-256-gcm', key.versions[version - 1], sealed.subarray(0, 12));
  decipher.setAAD(Buffer.from(q.associated_data || '', 'base64'));
  decipher.setAuthTag(sealed.subarray(-16));
  try {
    const plaintext = Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]);
    if (faults.wrong_plaintext) plaintext[0] ^= 1;
    return { plaintext: plaintext.toString('base64') };
  } catch {
    throw new Refusal(400, 'cipher: message authentication failed');
  }
}

function answer(req, body) {
  if (faults.errors > 0) {
    faults.errors--;
    throw new Refusal(500, 'internal error');
  }
  if (faults.throttles > 0) {
    faults.throttles--;
    throw new Refusal(429, 'request path "transit": rate limit quota exceeded');
  }
  if (faults.sealed) throw new Refusal(503, 'Vault is sealed');
  const token = tokenOf(req);
  const ttl = () => (token.ends ? Math.max(0, Math.round((token.ends - LEEWAY_MS - Date.now()) / 1000)) : 0);
  if (req.method === 'GET' && req.url === '/v1/auth/token/lookup-self') {
    count('lookup');
    return { data: { ttl: ttl(), renewable: Boolean(token.ends) } };
  }
  if (req.method === 'POST' && req.url === '/v1/auth/token/renew-self') {
    count('renew');
    counts.oldest_ms = Math.max(counts.oldest_ms || 0, Date.now() - token.since);
    begin(token);
    return { auth: { lease_duration: token.period, renewable: true } };
  }
  const path = req.url.match(/^\/v1\/transit\/(encrypt|decrypt)\/([\w.-]+)$/);
  if (!path || req.method !== 'POST') throw new Refusal(404, 'no handler for route');
  count(path[1]);
  if ((token.space || '') !== (req.headers['x-vault-namespace'] || '')) throw new Refusal(403, 'permission denied');
  if (faults.policy_denies) throw new Refusal(403, '1 error occurred:\n\t* permission denied\n\n');
  if (faults.unknown_error) throw new Refusal(400, 'something new');
  return { data: path[1] === 'encrypt' ? encrypt(path[2], body) : decrypt(path[2], body) };
}

// Told to live for its period, and left alone for a while more: a client that is kept from running is late with its renewal.
const LEEWAY_MS = 3000;
function begin(token) {
  token.since = Date.now();
  token.ends = token.since + token.period * 1000 + LEEWAY_MS;
  return token;
}

function control(order) {
  if (order.reset) {
    keys = new Map([['cmk-1', newKey()], ['cmk-2', newKey()]]);
    tokens = new Map([['hvs.forever', {}], ['hvs.team', { space: NAMESPACE }]]);
    faults = { ...NO_FAULTS };
    counts = {};
  }
  if (order.token) tokens.set(order.token, begin({ period: order.period }));
  if (order.end_token) tokens.delete(order.end_token);
  if (order.begin_token) tokens.set(order.begin_token, {});
  if (order.delete) keys.delete(order.delete);
  if (order.rotate) keys.get('cmk-1').versions.push(crypto.randomBytes(32));
  if (order.least) keys.get('cmk-1').least = order.least;
  for (const [name, value] of Object.entries(order)) if (name in faults) faults[name] = value;
  return { counts };
}

function read(req) {
  return new Promise((resolve) => {
    const parts = [];
    req.on('data', (part) => parts.push(part)).on('end', () => resolve(Buffer.concat(parts).toString()));
  });
}

async function serve(req, res) {
  const body = await read(req);
  if (req.url === '/_control') {
    res.end(JSON.stringify(control(JSON.parse(body))));
    return;
  }
  if (faults.silent) return; // the connection stays open, nothing comes
  for (let slept = 0; slept < faults.latency_ms; slept += 20) await new Promise((resolve) => setTimeout(resolve, 20));
  let status = 200;
  let text;
  try {
    text = JSON.stringify(answer(req, body ? JSON.parse(body) : {}));
  } catch (e) {
    status = e.status || 500;
    text = JSON.stringify({ errors: e.errors || [String(e)] });
  }
  res.writeHead(status, { 'Content-Type': 'application/json' });
  res.end(faults.garbage ? '{"data": {"plaintext": 5' : text);
}

control({ reset: true });
http.createServer(serve).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
