# An image with this tool for CI: `docker build -t build-torchvision .`, then
# `docker run --rm -v "$PWD:/work" build-torchvision verify --static dist/*.whl`, which needs no network.
FROM debian:trixie-slim AS wheel
RUN apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv ca-certificates
RUN python3 -m venv /opt/builder
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/builder/bin/python -m pip wheel --quiet --no-deps --wheel-dir /wheel .

FROM debian:trixie-slim
RUN apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheel /wheel
RUN python3 -m venv /opt/build-torchvision && wheel=$(echo /wheel/*.whl) && \
    /opt/build-torchvision/bin/python -m pip install --quiet --no-cache-dir "${wheel}[arm]" && rm -r /wheel
RUN useradd --create-home --uid 1000 builder && install -d -o builder /work
ENV PATH=/opt/build-torchvision/bin:/usr/local/bin:/usr/bin:/bin
USER builder
WORKDIR /work
ENTRYPOINT ["build-torchvision"]
