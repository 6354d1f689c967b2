FROM python:3.11-slim AS build
WORKDIR /app
RUN python -m venv /app/.venv
COPY requirements/build.txt requirements/run.txt requirements/
RUN .venv/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/run.txt
COPY pyproject.toml README.md supervisor.toml ./
COPY runtime runtime
COPY actors actors
COPY api api
COPY schema schema
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e .

FROM python:3.11-slim
WORKDIR /app
RUN useradd --system --home-dir /app bitnexus && mkdir /data && chown bitnexus /data
COPY --from=build /app /app
USER bitnexus
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=4000 \
    DATA_DIR=/data \
    BITNEXUS_ENV=prod
EXPOSE 4000
VOLUME /data
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '4000') + '/health', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["bitnexus", "serve"]
