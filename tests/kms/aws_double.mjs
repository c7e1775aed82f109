// A double of AWS KMS (JSON 1.1, symmetric keys) and of the instance metadata, for tests. It checks every signature with
// AWS's own signer, binds ciphertexts to key and encryption context as KMS does, and misbehaves on demand:
//   POST /_control {"reset": true} | {"latency_ms": N, "silent": true, ...}   answers the two keys' ARNs
// node aws_double.mjs PORT
import http from 'node:http';
import crypto from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import { Sha256 } from '@aws-crypto/sha256-js';

const REGION = 'eu-central-1';
const ACCOUNT = '111122223333';
const PERMANENT = { accessKeyId: 'AKIDLOCHTEST', secretAccessKey: 'loch/test+secret' };
const NO_FAULTS = {
  latency_ms: 0, silent: false, errors: 0, throttles: 0, skew_s: 0, expired: false, denied: false, delayed_disable_ms: 0,
  wrong_plaintext: false, wrong_key: false, garbage: false, role_expires_s: 3600, metadata_silent: false,
};

let keys = new Map();
let faults = { ...NO_FAULTS };
let roles = new Map(); // temporary credentials that the metadata gave: access key -> { secret, token, expires }
let metadataTokens = new Set();
let counts = {};

class Refusal extends Error {
  constructor(type, message, status = 400) {
    super(message);
    this.type = type;
    this.status = status;
  }
}
const arnOf = (id) => `arn:aws:kms:${REGION}:${ACCOUNT}:key/${id}`;
const now = () => Date.now() + faults.skew_s * 1000;

function newKey() {
  const id = crypto.randomUUID();
  keys.set(id, { id, state: 'Enabled', since: 0, materials: [crypto.randomBytes(32)] });
  return id;
}

function keyOf(name) {
  const key = keys.get(String(name || '').split('/').pop());
  if (!key) throw new Refusal('NotFoundException', `Key '${name}' does not exist`);
  return key;
}

function checkUsable(key) {
  if (faults.denied) throw new Refusal('AccessDeniedException', 'User is not authorized to perform this operation');
  const settled = Date.now() - key.since >= faults.delayed_disable_ms;
  const state = settled ? key.state : 'Enabled';
  if (state === 'Disabled') throw new Refusal('DisabledException', `${arnOf(key.id)} is disabled.`);
  if (state !== 'Enabled') throw new Refusal('KMSInvalidStateException', `${arnOf(key.id)} is pending deletion.`);
}

const aadOf = (context) => Buffer.from(JSON.stringify(Object.entries(context || {}).sort()));

// version of the material, key id, IV, tag, ciphertext
function seal(key, plaintext, context) {
  const iv = crypto.randomBytes(12);
  const cipher = crypto.createCipheriv('aes-256-gcm', key.materials.at(-1), iv);
  cipher.setAAD(aadOf(context));
  const sealed = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  const id = Buffer.from(key.id.replaceAll('-', ''), 'hex');
  return Buffer.concat([Buffer.from([key.materials.length - 1]), id, iv, cipher.getAuthTag(), sealed]);
}

function open(blob, context, wanted) {
  const named = wanted ? keyOf(wanted) : null; // the key that is named comes first, as in KMS
  if (blob.length < 46) throw new Refusal('InvalidCiphertextException', '');
  const hex = blob.subarray(1, 17).toString('hex');
  const id = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
  const key = keys.get(id);
  if (!key || !key.materials[blob[0]]) throw new Refusal('InvalidCiphertextException', '');
  if (named && named !== key) throw new Refusal('IncorrectKeyException', 'The key ID does not identify the key.');
  checkUsable(key);
  const decipher = crypto.createDecipheriv('aes-256-gcm', key.materials[blob[0]], blob.subarray(17, 29));
  decipher.setAAD(aadOf(context));
  decipher.setAuthTag(blob.subarray(29, 45));
  try {
    return [key, Buffer.concat([decipher.update(blob.subarray(45)), decipher.final()])];
  } catch {
    throw new Refusal('InvalidCiphertextException', '');
  }
}

const operations = {
  Encrypt(q) {
    const key = keyOf(q.KeyId);
    checkUsable(key);
    const blob = seal(key, Buffer.from(q.Plaintext, 'base64'), q.EncryptionContext);
    return { CiphertextBlob: blob.toString('base64'), KeyId: arnOf(key.id), EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' };
  },
  Decrypt(q) {
    const [key, plaintext] = open(Buffer.from(q.CiphertextBlob, 'base64'), q.EncryptionContext, q.KeyId);
    if (faults.wrong_plaintext) plaintext[0] ^= 1;
    return { Plaintext: plaintext.toString('base64'), KeyId: arnOf(key.id), EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' };
  },
  GenerateDataKey(q) {
    const key = keyOf(q.KeyId);
    checkUsable(key);
    const plaintext = crypto.randomBytes(q.NumberOfBytes || 32);
    const blob = seal(key, plaintext, q.EncryptionContext);
    return { CiphertextBlob: blob.toString('base64'), Plaintext: plaintext.toString('base64'), KeyId: arnOf(key.id) };
  },
  DescribeKey(q) {
    const key = keyOf(q.KeyId);
    return { KeyMetadata: { KeyId: key.id, Arn: arnOf(key.id), KeyState: key.state, Enabled: key.state === 'Enabled' } };
  },
  RotateKeyOnDemand(q) {
    const key = keyOf(q.KeyId);
    key.materials.push(crypto.randomBytes(32));
    return { KeyId: key.id };
  },
  DisableKey: (q) => setState(q, 'Disabled'),
  EnableKey: (q) => setState(q, 'Enabled'),
  ScheduleKeyDeletion(q) {
    setState(q, 'PendingDeletion');
    return { KeyId: arnOf(keyOf(q.KeyId).id), KeyState: 'PendingDeletion' };
  },
};

function setState(q, state) {
  const key = keyOf(q.KeyId);
  key.state = state;
  key.since = Date.now();
}

// Recomputes the request's signature with AWS's signer.
async function authenticate(req, body) {
  const parts = (req.headers.authorization || '').match(
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/);
  if (!parts) throw new Refusal('MissingAuthenticationTokenException', 'Missing Authentication Token');
  const [, access, , region, service, names, signature] = parts;
  const role = roles.get(access);
  if (access !== PERMANENT.accessKeyId && !role) {
    throw new Refusal('UnrecognizedClientException', 'The security token included in the request is invalid.');
  }
  const credentials = role ? { accessKeyId: access, secretAccessKey: role.secret, sessionToken: role.token } : PERMANENT;
  if (role && req.headers['x-amz-security-token'] !== role.token) throw new Refusal('UnrecognizedClientException', 'token');
  const d = req.headers['x-amz-date'] || '';
  const when = Date.parse(`${d.slice(0, 4)}-${d.slice(4, 6)}-${d.slice(6, 8)}T${d.slice(9, 11)}:${d.slice(11, 13)}:${d.slice(13, 15)}Z`);
  if (!(Math.abs(now() - when) <= 300000)) throw new Refusal('InvalidSignatureException', `Signature expired: ${d}`);
  const signed = names.split(';');
  for (const name of ['host', 'x-amz-date', 'x-amz-target']) {
    if (!signed.includes(name)) throw new Refusal('IncompleteSignatureException', `${name} is not signed`);
  }
  const headers = {};
  for (const name of signed) headers[name] = req.headers[name];
  const signer = new SignatureV4({ credentials, region, service, sha256: Sha256, applyChecksum: false });
  const again = await signer.sign(
    { method: req.method, path: '/', query: {}, headers, body, hostname: req.headers.host, protocol: 'http:' },
    { signingDate: new Date(when), signableHeaders: new Set(signed) });
  const ours = again.headers.authorization.match(/Signature=([0-9a-f]{64})/)[1];
  const sameNames = again.headers.authorization.includes(`SignedHeaders=${names},`);
  if (ours !== signature || !sameNames || region !== REGION || service !== 'kms') {
    throw new Refusal('InvalidSignatureException', 'The request signature we calculated does not match.');
  }
  if (faults.expired || (role && role.expires < now())) {
    throw new Refusal('ExpiredTokenException', 'The security token included in the request is expired');
  }
}

async function kms(req, body) {
  const name = String(req.headers['x-amz-target'] || '').replace('TrentService.', '');
  counts[name] = (counts[name] || 0) + 1;
  if (faults.errors > 0) {
    faults.errors--;
    throw new Refusal('KMSInternalException', 'internal', 500);
  }
  if (faults.throttles > 0) {
    faults.throttles--;
    throw new Refusal('ThrottlingException', 'Rate exceeded');
  }
  await authenticate(req, body);
  if (!Object.hasOwn(operations, name)) throw new Refusal('UnknownOperationException', name);
  const answer = operations[name](JSON.parse(body.toString()));
  if (faults.wrong_key && answer && answer.KeyId) answer.KeyId = arnOf(crypto.randomUUID());
  return answer;
}

function metadata(req) {
  if (req.method === 'PUT' && req.url === '/latest/api/token') {
    if (!req.headers['x-aws-ec2-metadata-token-ttl-seconds']) return [400, ''];
    const token = crypto.randomBytes(24).toString('base64');
    metadataTokens.add(token);
    return [200, token];
  }
  if (!metadataTokens.has(req.headers['x-aws-ec2-metadata-token'])) return [401, ''];
  counts.metadata = (counts.metadata || 0) + 1;
  if (req.url === '/latest/meta-data/iam/security-credentials/') return [200, 'loch-role'];
  if (req.url !== '/latest/meta-data/iam/security-credentials/loch-role') return [404, ''];
  const access = `ASIA${crypto.randomBytes(8).toString('hex').toUpperCase()}`;
  const role = {
    secret: crypto.randomBytes(30).toString('base64'),
    token: crypto.randomBytes(600).toString('base64'),
    expires: now() + faults.role_expires_s * 1000,
  };
  roles.set(access, role);
  return [200, JSON.stringify({
    Code: 'Success', AccessKeyId: access, SecretAccessKey: role.secret, Token: role.token,
    Expiration: new Date(role.expires).toISOString().replace(/\.\d+Z/, 'Z'),
  })];
}

let first;
let second;
function control(order) {
  if (order.reset) {
    keys = new Map();
    faults = { ...NO_FAULTS };
    roles = new Map();
    counts = {};
    first = newKey();
    second = newKey();
  }
  if (order.forget_roles) roles = new Map();
  if (order.rotate) keyOf(first).materials.push(crypto.randomBytes(32));
  if (order.key) setState({ KeyId: first }, order.key);
  if (order.delete) keys.delete(first);
  for (const [name, value] of Object.entries(order)) if (name in faults) faults[name] = value;
  return { arn: arnOf(first), other: arnOf(second), counts };
}

function read(req) {
  return new Promise((resolve) => {
    const parts = [];
    req.on('data', (part) => parts.push(part)).on('end', () => resolve(Buffer.concat(parts)));
  });
}

async function serve(req, res) {
  const body = await read(req);
  if (req.url === '/_control') {
    res.end(JSON.stringify(control(JSON.parse(body.toString()))));
    return;
  }
  if (faults.silent) return; // the connection stays open, nothing comes
  for (let slept = 0; slept < faults.latency_ms; slept += 20) await new Promise((resolve) => setTimeout(resolve, 20));
  if (req.url.startsWith('/latest/')) {
    if (faults.metadata_silent) {
      counts.unanswered = (counts.unanswered || 0) + 1;
      return;
    }
    const [status, text] = metadata(req);
    res.writeHead(status);
    res.end(text);
    return;
  }
  let status = 200;
  let answer;
  try {
    answer = await kms(req, body);
  } catch (e) {
    status = e.status || 500;
    answer = { __type: e.type || 'KMSInternalException', message: e.message };
  }
  const text = faults.garbage ? '{"Plaintext": 5, ' : answer ? JSON.stringify(answer) : '';
  res.writeHead(status, { 'Content-Type': 'application/x-amz-json-1.1', Date: new Date(now()).toUTCString() });
  res.end(text);
}

control({ reset: true });
http.createServer(serve).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
