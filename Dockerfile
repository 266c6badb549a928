# The image of Vaylix: server, client and administration in a base without a shell, run by a user without rights.
#
#   docker build -t vaylix .
#
# Every base is a build argument, for places where no public registry is reached:
#
#   BUILDER_IMAGE   Rust with a C compiler, of the release that rust-toolchain.toml names
#   RUNTIME_IMAGE   the C library, libgcc and the certificates of public authorities; nothing else is needed
#   BINARIES        an image with the finished programs under /out, instead of building them
#
# docs/deployment.md says how to build where there is no network at all.

ARG BUILDER_IMAGE=docker.io/library/rust:1.95.0-trixie
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13
ARG BINARIES=build

# What the dependencies are built from: manifests, and sources that are all the same. It changes when a manifest does, and so does
# the next stage.
FROM ${BUILDER_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name 'Cargo.*' ! -path '*/src/main.rs' ! -path '*/src/lib.rs' ! -name build.rs -delete \
 && find . -type d -empty -delete \
 && find . -name '*.rs' -exec sh -c 'for file; do echo "fn main() { }" > "$file"; done' sh {} +

# The dependencies, and a list of them for each program (a software bill of materials in the format CycloneDX).
FROM ${BUILDER_IMAGE} AS dependencies
RUN cargo install --locked --root /opt/tools cargo-cyclonedx@0.5.9
WORKDIR /src
COPY --from=manifests /src .
RUN cargo build --release --locked --workspace --bins
RUN /opt/tools/bin/cargo-cyclonedx cyclonedx --format json --spec-version 1.5 --override-filename bom \
 && mkdir -p /out/usr/share/doc/vaylix \
 && for crate in server:vaylix cli:vaylix-client ctl:vaylixctl init:vaylix-init; do \
        mv "${crate%%:*}/bom.json" "/out/usr/share/doc/vaylix/${crate##*:}.cdx.json" || exit 1; \
    done

# The programs. Their line tables are left out: names of functions are enough for a trace.
FROM dependencies AS build
ARG GIT_SHA=unknown
ENV VAYLIX_GIT_SHA=${GIT_SHA}
COPY . .
RUN find . -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --workspace --bins \
 && mkdir -p /out/usr/local/bin /out/var/lib/vaylix \
 && for program in vaylix vaylix-client vaylixctl vaylix-init; do \
        strip --strip-debug -o "/out/usr/local/bin/$program" "target/release/$program" || exit 1; \
    done \
 && cp LICENSE /out/usr/share/doc/vaylix/

FROM ${BINARIES} AS binaries

FROM ${RUNTIME_IMAGE} AS runtime
ARG VERSION=0.10.0
ARG GIT_SHA=unknown
LABEL org.opencontainers.image.title="Vaylix" \
      org.opencontainers.image.description="A secure, consensus-backed key-value database for operational state" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${GIT_SHA}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binaries /out/usr/ /usr/
# An empty volume that is mounted here belongs to the server from the start, also where nobody may be root.
COPY --from=binaries --chown=65532:65532 /out/var/lib/vaylix /var/lib/vaylix
# The listeners are the container's own; what of them others reach is decided where ports are published. No credentials are set:
# whoever gives none finds a generated password in the log of the first start.
ENV VAYLIX_BIND=0.0.0.0 \
    VAYLIX_ADMIN_BIND=0.0.0.0 \
    VAYLIX_DATA_DIR=/var/lib/vaylix
EXPOSE 9173 9174
VOLUME /var/lib/vaylix
STOPSIGNAL SIGTERM
# vaylix-init begins as root, to give the volume to the server, and starts it as 65532:65532. Any other user may be chosen with
# `docker run --user`; then the volume must be that user's already.
USER 0:0
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/vaylix", "healthcheck", "--kind", "liveness"]
ENTRYPOINT ["/usr/local/bin/vaylix-init"]
CMD ["vaylix"]
