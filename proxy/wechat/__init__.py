"""What WeChat says: signatures, envelope, pushes and replies of an Official Account. Pure.

The way in: `push.read_query` -> `signature.verify` -> `envelope.open_envelope` -> a document -> `push.message_type`
and `delivery.message_key`. The way out: `reply.seal_reply`.
Numbers such as "protocol 1.4" in comments are chapters of WeChat's documentation as collected in docs/wechat.md.
"""
