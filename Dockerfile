# The image of wxgate: the locked packages and nothing else, for a user without rights on a read-only file system.
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim-bookworm@sha256:DIGEST -t wxgate .
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/run.lock requirements/dev.lock requirements/
# Two environments: what runs, without pip in it, and what builds the wheel. Both hold locked files only.
RUN python -m venv --without-pip /opt/wxgate \
    && pip --python /opt/wxgate/bin/python install --require-hashes --no-deps --only-binary :all: \
        -r requirements/run.lock \
    && sed -n '/^setuptools==/,/[^\\]$/p' requirements/dev.lock > requirements/build.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --no-deps -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
# Reports of `wxgate policy` carry the help of this page; a link in proxy/ leads to it.
COPY docs/errors.md docs/
COPY proxy proxy
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/wxgate/bin/python install --no-deps --no-index /wheels/wxgate-*.whl \
    && rm -f /opt/wxgate/bin/mitm* /opt/wxgate/bin/flask \
    && /opt/wxgate/bin/wxgate --version

FROM ${PYTHON_IMAGE}
# Keys, keyring and audit log: the only place wxgate writes to.
RUN install -d -o 10001 -g 10001 -m 0700 /state
COPY --from=build /opt/wxgate /opt/wxgate
ENV PATH=/opt/wxgate/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONMALLOC=mimalloc
USER 10001:10001
WORKDIR /etc/wxgate
VOLUME /state
EXPOSE 8443 8444
STOPSIGNAL SIGTERM
# Alive, not ready: a gateway that kept its old configuration after a failed reload must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/opt/wxgate/bin/python", "-I", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9090, timeout=3); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["wxgate"]
CMD ["serve", "--config", "/etc/wxgate/gateway.yaml"]
