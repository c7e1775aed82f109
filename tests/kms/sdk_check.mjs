// The official SDK against the double: what Loch is tested with behaves as AWS's own client expects.
// node sdk_check.mjs PORT
import {
  KMSClient, DecryptCommand, DescribeKeyCommand, DisableKeyCommand, EnableKeyCommand, EncryptCommand,
  GenerateDataKeyCommand, RotateKeyOnDemandCommand, ScheduleKeyDeletionCommand,
} from '@aws-sdk/client-kms';
import assert from 'node:assert/strict';

const endpoint = `http://127.0.0.1:${process.argv[2]}`;
const control = async (order) => (await fetch(`${endpoint}/_control`, { method: 'POST', body: JSON.stringify(order) })).json();
const client = (secretAccessKey) => new KMSClient({
  endpoint, region: 'eu-central-1', maxAttempts: 1, credentials: { accessKeyId: 'AKIDLOCHTEST', secretAccessKey },
});
const { arn, other } = await control({ reset: true });
const c = client('loch/test+secret');
const refused = (promise, name) => assert.rejects(promise, (e) => e.name === name);
const EncryptionContext = { 'loch:tenant': 't1', 'loch:purpose': 'page' };
const Plaintext = Buffer.alloc(32, 7);

const made = await c.send(new EncryptCommand({ KeyId: arn, Plaintext, EncryptionContext }));
const decrypt = (more = {}) =>
  c.send(new DecryptCommand({ KeyId: arn, CiphertextBlob: made.CiphertextBlob, EncryptionContext, ...more }));
assert.deepEqual(Buffer.from((await decrypt()).Plaintext), Plaintext);
await c.send(new RotateKeyOnDemandCommand({ KeyId: arn }));
assert.deepEqual(Buffer.from((await decrypt()).Plaintext), Plaintext);
assert.equal((await c.send(new GenerateDataKeyCommand({ KeyId: arn, NumberOfBytes: 32 }))).Plaintext.length, 32);
await refused(decrypt({ EncryptionContext: { 'loch:tenant': 't2' } }), 'InvalidCiphertextException');
await refused(decrypt({ KeyId: other }), 'IncorrectKeyException');
await refused(client('wrong').send(new DescribeKeyCommand({ KeyId: arn })), 'InvalidSignatureException');
await c.send(new DisableKeyCommand({ KeyId: arn }));
await refused(decrypt(), 'DisabledException');
await c.send(new EnableKeyCommand({ KeyId: arn }));
await decrypt();
await c.send(new ScheduleKeyDeletionCommand({ KeyId: arn, PendingWindowInDays: 7 }));
await refused(decrypt(), 'KMSInvalidStateException');
await control({ throttles: 1 });
await refused(decrypt(), 'ThrottlingException');
await control({ errors: 1 });
await refused(decrypt(), 'KMSInternalException');
await control({ expired: true });
await refused(decrypt(), 'ExpiredTokenException');
console.log('the official SDK and the double agree');
