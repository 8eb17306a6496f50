# One image for the worker, Flower and the migration: what deploy/requirements.lock pins, by hash, and Fairlane.
FROM python:3.11-slim AS build
WORKDIR /src
COPY deploy/requirements.lock deploy/requirements.lock
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r deploy/requirements.lock
COPY . .
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps ./producer_sdk .

FROM python:3.11-slim
RUN useradd --system --create-home --home-dir /var/lib/fairlane --uid 10001 fairlane
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FAIRLANE_HOME=/var/lib/fairlane
USER fairlane
WORKDIR /var/lib/fairlane
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["fairlane", "doctor", "--only", "broker", "--only", "ledger"]
CMD ["fairlane", "worker"]
