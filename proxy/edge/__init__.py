"""The one room that knows mitmproxy, pyOpenSSL and sockets: bytes become an `Arrived`, cleared values become bytes.

`listener` accepts, `connection` drives mitmproxy's sans-io layers over one socket, `tls_layer` and `http_layer` are the
layers, `http_guard` and `http_body` say what HTTP is accepted, `upstream` is the one door out.
"""
