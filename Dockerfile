# The image of everything: one static program on an empty file system. `make image` writes the same without Docker.
FROM golang:1.26 AS build
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
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o / ./cmd/caly ./cmd/caly-upload

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /caly /caly-upload /
USER 65532:65532
ENTRYPOINT ["/caly"]
