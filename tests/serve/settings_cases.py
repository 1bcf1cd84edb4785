"""A whole gateway.yaml, and everything that can be wrong with one."""

from typing import Any

SECRETS = {
    "unlock": "unlock-unlock-unlock",
    "token": "wechatToken9",
    "aes": "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
    "bearer": "bearer-of-sixteen-characters",
    "short": "fifteen-letters",
    "admin": "admin-token-of-the-page",
}
CONFIG = """\
version: 1
state: state
tenant: acme
region: cn
keys: {unlock: 'file:secrets/unlock'}
listeners:
  - name: public
    address: 127.0.0.1:8443
    tls: {certificate: certs/a.pem, key: certs/a.key}
  - name: internal
    address: '[::1]:8444'
    tls:
      certificate: certs/a.pem
      key: certs/a.key
      names: {WX.example.com: {certificate: certs/b.pem, key: certs/b.key}}
      oldest: '1.3'
      client_certificates: {ca: certs/ca.pem, required: true, names: [crm.internal]}
    limits: {connections: 10, per_address: 5, handshake: 1s, head: 2s, body: 3s, idle: 4s}
    proxy_protocol: true
accounts:
  - {name: shop, app_id: wx0123456789abcdef, mode: safe, token: 'file:secrets/token',
     encoding_aes_key: 'file:secrets/aes'}
upstreams:
  - {name: crm, url: 'https://crm.internal:8500', ca: certs/ca.pem, idle: 20s}
  - {name: wechat, url: 'https://api.weixin.qq.com', egress_proxy: 'http://proxy.internal:3129'}
routes:
  - {name: push, kind: inbound, listener: public, path: /wechat/shop, account: shop, upstream: crm,
     policy: policies/wechat-crm.yaml, target: /webhook, sources: [101.226.0.0/16]}
  - name: sends
    kind: outbound
    listener: internal
    hosts: [GW.internal]
    path: /cgi-bin/
    upstream: wechat
    policy: policies/wechat-crm.yaml
    admit: [{subject: crm, role: crm, bearer: 'file:secrets/bearer'}]
    upstream_budget: 9s
    deadline: 10s
    largest_body: 2MiB
audit: {directory: logs/audit, rotate_at: 1MiB}
admin: {address: '127.0.0.1:9191', token: 'file:secrets/admin'}
drain: 7s
deliveries: {entries: 2048, replies: 1MiB}
"""


PUSH_POLICY = "policy: policies/wechat-crm.yaml, target"
INTERNAL = "  - name: internal\n"
SHOP = "{name: shop, app_id"
PLAIN = "name: shop, app_id: wx0123456789abcdef, mode: plain, token: 'file:secrets/token'"
WECHAT = "  - {name: wechat, url: 'https://api.weixin.qq.com'"
TWIN = "{name: twin, kind: inbound, listener: public, path: /wechat/shop, account: shop, upstream: crm, "
# What is wrong: text of CONFIG, what stands there instead (§ marks where the problem is), code, further changes.
CASES: dict[str, tuple[Any, ...]] = {
    # names and what they stand for
    "two listeners of one name": (INTERNAL, "  - §name: public\n", "name-duplicate"),
    "two accounts of one name": ("  - " + SHOP, f"  - {{{PLAIN}}}\n  - §{SHOP}", "name-duplicate"),
    "two upstreams of one name": (
        "  - {name: wechat, url",
        "  - {name: wechat, url: 'https://a.b'}\n  - §{name: wechat, url",
        "name-duplicate",
    ),
    "unknown listener": ("listener: public", "listener: §pubic", "name-unknown"),
    "unknown account": ("account: shop", "account: §shoe", "name-unknown"),
    "unknown upstream": ("upstream: wechat", "upstream: §weechat", "name-unknown"),
    "name of a wrong form": ("name: push", "name: §Push", "wrong-value"),
    # shapes
    "version of tomorrow": ("version: 1", "version: §2", "wrong-value"),
    "region of a wrong form": ("region: cn", "region: §China", "wrong-value"),
    "region in upper case": ("region: cn", "region: §CN", "wrong-value"),
    "region code of a wrong form": ("region: cn", "region: {code: §China}", "wrong-value"),
    "region without a code": ("region: cn", "region: §{full_disk_encryption: required}", "missing-key"),
    "region with more": ("region: cn", "region: {code: cn, §name: China}", "unknown-key"),
    "disk demand of a wrong form": ("region: cn", "region: {code: cn, full_disk_encryption: §yes}", "wrong-value"),
    "attested without a reason": ("region: cn", "region: {code: cn, full_disk_encryption: §{}}", "missing-key"),
    "attested with an empty reason": (
        "region: cn",
        "region: {code: cn, full_disk_encryption: {attested: §''}}",
        "wrong-value",
    ),
    "a key nobody knows": ("drain: 7s", "drain: 7s\n§drian: 3s", "unknown-key"),
    "a key nobody knows in a listener": (
        "    proxy_protocol: true",
        "    proxy_protocol: true\n    §tsl: 1",
        "unknown-key",
    ),
    "a key nobody knows in tls": (
        "tls: {certificate: certs/a.pem,",
        "tls: {§ciphers: ALL, certificate: certs/a.pem,",
        "unknown-key",
    ),
    "a key nobody knows in limits": ("limits: {connections", "limits: {§exchange: 3s, connections", "unknown-key"),
    "a key nobody knows in an account": (SHOP, "{§tokn: x, name: shop, app_id", "unknown-key"),
    "a key nobody knows in an upstream": ("idle: 20s}", "idle: 20s, §verify: false}", "unknown-key"),
    "a key nobody knows in a route": ("    largest_body", "    §default: true\n    largest_body", "unknown-key"),
    "a key nobody knows in admit": ("admit: [{subject", "admit: [{§any: true, subject", "unknown-key"),
    "a key nobody knows in keys": ("keys: {unlock", "keys: {§kek: x, unlock", "unknown-key"),
    "listeners are no list": ("accounts:\n", "accounts: §5\nx:\n", "wrong-type"),
    "a section that is none": ("audit: {directory: logs/audit, rotate_at: 1MiB}", "audit: §here", "wrong-type"),
    "a flag that is none": ("proxy_protocol: true", "proxy_protocol: §1", "wrong-type"),
    "a number that is none": ("connections: 10", "connections: §many", "wrong-value"),
    "no connections at all": ("connections: 10", "connections: §0", "wrong-value"),
    "a duration that is none": ("drain: 7s", "drain: §7", "wrong-value"),
    "a drain without end": ("drain: 7s", "drain: §301s", "wrong-value"),
    "a size that is none": ("rotate_at: 1MiB", "rotate_at: §1MB", "wrong-value"),
    "an oldest TLS that is refused": ("oldest: '1.3'", "oldest: §'1.1'", "wrong-value"),
    "a kind of route that is none": ("kind: outbound", "kind: §forward", "wrong-value"),
    "a mode that is none": ("mode: safe", "mode: §open", "wrong-value"),
    "an AppID that is none": ("app_id: wx0123456789abcdef", "app_id: §wx123", "wrong-value"),
    "a key provider that is none": ("keys: {unlock", "keys: {provider: §vault, unlock", "wrong-value"),
    "a path that is none": ("path: /cgi-bin/", "path: §cgi-bin", "wrong-value"),
    "a network that is none": ("- {name: push", "- §{name: push", "wrong-value", ("101.226.0.0/16", "101.226.0.1/16")),
    # addresses and URLs
    "no port": ("127.0.0.1:8443", "§127.0.0.1", "wrong-value"),
    "a name for an address": ("127.0.0.1:8443", "§localhost:8443", "wrong-value"),
    "port 0": ("127.0.0.1:8443", "§127.0.0.1:0", "wrong-value"),
    "a port too high": ("127.0.0.1:8443", "§127.0.0.1:65536", "wrong-value"),
    "a port of odd digits": ("127.0.0.1:8443", "§127.0.0.1:²", "wrong-value"),
    "a port without end": ("127.0.0.1:8443", "§127.0.0.1:" + "9" * 5000, "wrong-value"),
    "two listeners at one address": (
        INTERNAL,
        "  - §name: internal\n",
        "address-duplicate",
        ("'[::1]:8444'", "127.0.0.1:8443"),
    ),
    "an admin page for everybody": (
        "admin: {address: '127.0.0.1:9191'",
        "admin: §{address: '0.0.0.0:9191'",
        "admin-exposed",
    ),
    "an upstream without TLS": ("  - {name: crm, url: 'https:", "  - §{name: crm, url: 'http:", "wrong-value"),
    "an upstream with a path": (WECHAT, "  - §{name: wechat, url: 'https://api.weixin.qq.com/a'", "wrong-value"),
    "an upstream without a host": (WECHAT, "  - §{name: wechat, url: 'https://'", "wrong-value"),
    "an upstream that is no URL": (WECHAT, "  - §{name: wechat, url: 'https://[::1'", "wrong-value"),
    "an upstream's port that is none": (WECHAT, "  - §{name: wechat, url: 'https://a.b:99999'", "wrong-value"),
    "an egress proxy that is no URL": (
        "  - {name: wechat, url",
        "  - §{name: wechat, url",
        "wrong-value",
        ("http://proxy.internal:3129", "http://[proxy"),
    ),
    "half a client certificate": (
        "  - {name: crm, url",
        "  - §{name: crm, client_key: certs/a.key, url",
        "wrong-value",
    ),
    # files and secrets
    "no certificate there": ("tls: {certificate: certs/a.pem", "tls: {certificate: §certs/z.pem", "file-unreadable"),
    "no client CA there": ("{ca: certs/ca.pem, required", "{ca: §certs/z.pem, required", "file-unreadable"),
    "no upstream CA there": ("8500', ca: certs/ca.pem", "8500', ca: §certs/z.pem", "file-unreadable"),
    "no policy there": (PUSH_POLICY, "policy: §polices/wechat-crm.yaml, target", "file-unreadable"),
    "a literal secret": ("token: 'file:secrets/token'", "token: §wechatToken9", "secret"),
    "a secret file that is not there": ("unlock: 'file:secrets/unlock'", "unlock: §'file:secrets/none'", "secret"),
    "a variable that is not set": ("unlock: 'file:secrets/unlock'", "unlock: §'env:WXGATE_NOT_SET'", "secret"),
    "an EncodingAESKey that is none": (SHOP, "§" + SHOP, "secret", ("file:secrets/aes", "file:secrets/token")),
    "a bearer token that can be guessed": (
        "[{subject: crm",
        "[§{subject: crm",
        "secret",
        ("file:secrets/bearer", "file:secrets/short"),
    ),
    "an entry that shows nothing": (
        "[{subject: crm, role: crm, bearer: 'file:secrets/bearer'}]",
        "[§{subject: crm, role: crm}]",
        "credential-empty",
    ),
    # what does not go together
    "routes that overlap": (
        "  - name: sends\n",
        f"  - §{TWIN}policy: policies/wechat-crm.yaml}}\n  - name: sends\n",
        "route-overlap",
    ),
    "WeChat on a TLS 1.3 listener": (
        "  - {name: push, kind: inbound, listener: public",
        "  - §{name: push, kind: inbound, listener: internal",
        "tls13-wechat",
    ),
    "a policy that has nothing for the route": (
        "  - name: sends\n",
        "  - §name: sends\n",
        "policy-empty",
        ("wechat\n    policy: policies/wechat-crm.yaml", "wechat\n    policy: inbound.yaml"),
    ),
}
