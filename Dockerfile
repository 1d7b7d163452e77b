# The image of all components: static programs on an empty file system. `make image` writes the same without Docker and without any base.
# The builder is pinned by the digest of its index, which covers all platforms. To move to another: docker buildx imagetools inspect golang:TAG
FROM golang:1.26.8@sha256:6c2a5538f964f1c82f97ad14988bf05de100d922d159d0e398b54c7b0ca0c6c9 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api/ api/
COPY cmd/ cmd/
COPY controllers/ controllers/
COPY dataplane/ dataplane/
COPY internal/ internal/
COPY migrations/ migrations/
ARG VERSION=dev
# The repository is not part of the context: docker build --build-arg COMMIT=$(git rev-parse HEAD) --build-arg DATE=$(git log -1 --format=%cI)
ARG COMMIT=
ARG DATE=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION} \
    -X github.com/caly-dev/caly/internal/buildinfo.commit=${COMMIT} -X github.com/caly-dev/caly/internal/buildinfo.date=${DATE}" \
    -o / ./cmd/caly ./cmd/caly-upload

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /caly /caly-upload /
COPY LICENSE THIRD_PARTY_NOTICES /licenses/
USER 65532:65532
ENTRYPOINT ["/caly"]
