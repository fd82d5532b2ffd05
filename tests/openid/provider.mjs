// The provider that the tests sign in at: oidc-provider, a certified OpenID provider, on a free port of the loopback
// interface.
//
//     node provider.mjs DIRECTORY HOST
//
// DIRECTORY is where `npm ci` has put oidc-provider; HOST is the name of this machine in the issuer. The script says
// `issuer URL` on standard output once it answers. After that it takes commands on standard input, each a line with
// one JSON object, and answers each with a line when it has taken effect:
//
//     {"clients": [{"client_id": …, …}]}   the clients, as OpenID registers them; replaces those before
//     {"accounts": {"subject": {claims}}}  the people who can sign in, with any password; replaces those before
//
// It ends when standard input does, and so outlives no test. It keeps everything in memory, and knows no coracle.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [directory, host] = process.argv.slice(2);
console.info = console.error; // advice to operators; standard output has the answers to commands
const entry = createRequire(`${directory}/package.json`).resolve('oidc-provider');
const { default: Provider } = await import(pathToFileURL(entry));

let clients = new Map();
let accounts = new Map();
const rows = new Map(); // everything that has been granted, by kind and id

// A store whose clients can change: the registry's address is known only after it has read the issuer's.
class Store {
  constructor(kind) {
    this.kind = kind;
  }
  key(id) {
    return `${this.kind}:${id}`;
  }
  async find(id) {
    if (this.kind === 'Client') return clients.get(id);
    const row = rows.get(this.key(id));
    return row && row.until > Date.now() ? row.payload : undefined;
  }
  async upsert(id, payload, seconds) {
    rows.set(this.key(id), { payload, until: seconds ? Date.now() + seconds * 1000 : Infinity });
  }
  async findWhere(name, value) {
    for (const [key, { payload, until }] of rows) {
      if (key.startsWith(`${this.kind}:`) && payload[name] === value && until > Date.now()) return payload;
    }
    return undefined;
  }
  async findByUid(uid) {
    return this.findWhere('uid', uid);
  }
  async findByUserCode(code) {
    return this.findWhere('userCode', code);
  }
  async consume(id) {
    rows.get(this.key(id)).payload.consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    rows.delete(this.key(id));
  }
  async revokeByGrantId(grant) {
    for (const [key, { payload }] of rows) if (payload.grantId === grant) rows.delete(key);
  }
}

const key = (kind, options, alg) => {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: alg.toLowerCase() };
};

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://${host}:${server.address().port}`;

const provider = new Provider(issuer, {
  adapter: Store,
  jwks: {
    keys: [
      key('rsa', { modulusLength: 2048 }, 'RS256'),
      key('ec', { namedCurve: 'P-256' }, 'ES256'),
    ],
  },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'preferred_username'],
    groups: ['groups'],
  },
  findAccount: (_, id) => {
    const claims = accounts.get(id);
    return claims && { accountId: id, claims: async () => ({ sub: id, ...claims }) };
  },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  // As many providers do it: whoever may use refresh tokens gets them, each for one use.
  issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  pkce: { required: () => true },
  ttl: { Session: 3600, Grant: 3600, Interaction: 600 },
});
server.on('request', provider.callback());
provider.on('server_error', (_, error) => console.error(error));

const commands = {
  clients: (list) => {
    clients = new Map(list.map((client) => [client.client_id, client]));
  },
  accounts: (table) => {
    accounts = new Map(Object.entries(table));
  },
};

console.log(`issuer ${issuer}`);
for await (const line of createInterface({ input: process.stdin })) {
  for (const [name, value] of Object.entries(JSON.parse(line))) commands[name](value);
  console.log('done');
}
process.exit(0);
