# All services, one build. The manifests come first: what they name is built into a layer that changes to our own
# code leave alone.
FROM rust:1.95-bookworm AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ make perl pkg-config libssl-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# Manifests, and an empty source for each target that they declare.
FROM base AS manifests
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY .cargo .cargo
COPY crates crates
RUN find crates -type f ! -name Cargo.toml -delete \
    && for crate in crates/*/; do \
        mkdir -p "$crate/src" && : > "$crate/src/lib.rs" && echo 'fn main() {}' > "$crate/src/main.rs"; \
    done \
    && find crates -type d -empty -delete

FROM base AS build
COPY --from=manifests /src .
RUN cargo build --locked --release --workspace --bins
COPY crates crates
ARG REVISION=unknown
ENV WIKI_REVISION=$REVISION
# What was built from the empty sources is older than any of ours.
RUN find crates -name '*.rs' -exec touch {} + \
    && cargo build --locked --release --bin ingest --bin enricher --bin sink --bin console --bin simulator --bin wiki \
    && mkdir /programs \
    && for program in ingest enricher sink console simulator wiki; do \
        strip -o "/programs/$program" "target/release/$program"; \
    done

# No shell, no package manager, not root. Certificates and libssl are what it has.
FROM gcr.io/distroless/cc-debian12:nonroot AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE"
ENV WIKI_HTTP=0.0.0.0:8080 WIKI_LOG_FORMAT=json
USER nonroot
EXPOSE 8080

FROM runtime AS ingest
LABEL org.opencontainers.image.title="wikipedia-events ingest" \
      org.opencontainers.image.description="Publishes each edit of Wikimedia's stream once"
COPY --from=build /programs/ingest /ingest
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["/ingest", "healthcheck"]
ENTRYPOINT ["/ingest"]

FROM runtime AS enricher
LABEL org.opencontainers.image.title="wikipedia-events enricher" \
      org.opencontainers.image.description="Maps raw edits to enriched ones, each once"
COPY --from=build /programs/enricher /enricher
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["/enricher", "healthcheck"]
ENTRYPOINT ["/enricher"]

FROM runtime AS sink
LABEL org.opencontainers.image.title="wikipedia-events sink" \
      org.opencontainers.image.description="Stores enriched edits, each once"
COPY --from=build /programs/sink /sink
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["/sink", "healthcheck"]
ENTRYPOINT ["/sink"]

FROM runtime AS console
LABEL org.opencontainers.image.title="wikipedia-events console" \
      org.opencontainers.image.description="Shows who owns which partition, as the broker sees it"
COPY --from=build /programs/console /console
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["/console", "healthcheck"]
ENTRYPOINT ["/console"]

FROM runtime AS simulator
LABEL org.opencontainers.image.title="wikipedia-events simulator" \
      org.opencontainers.image.description="A faithful EventStreams server with a ledger of what it served"
COPY --from=build /programs/simulator /simulator
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["/simulator", "healthcheck"]
ENTRYPOINT ["/simulator"]

FROM runtime AS wiki
LABEL org.opencontainers.image.title="wikipedia-events wiki" \
      org.opencontainers.image.description="The operator's command: tail, audit, demo"
COPY --from=build /programs/wiki /wiki
ENTRYPOINT ["/wiki"]
