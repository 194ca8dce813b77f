// Storage of oidc-provider in plain maps: the adapter it ships keeps 1000 entries and silently evicts live tokens in long tests.
const GRACE = Number(process.env.GRACE || 0);

export const store = new Map();
const grants = new Map();
const sessionByUid = new Map();
const deviceByUserCode = new Map();
let grantRevoked = () => {};

export function onGrantRevoked(callback) {
  grantRevoked = callback;
}

export class MapAdapter {
  constructor(name) {
    this.name = name;
  }

  key(id) {
    return `${this.name}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const key = this.key(id);
    store.set(key, { payload: { ...payload }, expires: expiresIn ? Date.now() + expiresIn * 1000 : Infinity });
    if (payload.grantId && this.name !== 'Grant') {
      if (!grants.has(payload.grantId)) grants.set(payload.grantId, new Set());
      grants.get(payload.grantId).add(key);
    }
    if (this.name === 'Session') sessionByUid.set(payload.uid, id);
    if (payload.userCode) deviceByUserCode.set(payload.userCode, id);
  }

  async find(id) {
    const key = this.key(id);
    const entry = store.get(key);
    if (!entry) return undefined;
    if (entry.expires < Date.now()) {
      store.delete(key);
      return undefined;
    }
    const payload = { ...entry.payload };
    // The leeway that Okta, Auth0 and Hydra offer: a token used moments ago may be used once more.
    if (this.name === 'RefreshToken' && payload.consumed && Date.now() / 1000 - payload.consumed < GRACE) {
      delete payload.consumed;
    }
    return payload;
  }

  async findByUid(uid) {
    return this.find(sessionByUid.get(uid));
  }

  async findByUserCode(userCode) {
    return this.find(deviceByUserCode.get(userCode));
  }

  async consume(id) {
    const entry = store.get(this.key(id));
    if (entry) entry.payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    store.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    grantRevoked();
    for (const key of grants.get(grantId) ?? []) store.delete(key);
    grants.delete(grantId);
  }
}
