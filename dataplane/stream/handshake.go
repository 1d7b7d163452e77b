package stream

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/dataplane/problem"
)

// version of the WebSocket protocol, RFC 6455's.
const version = "13"

// keySize of a handshake's nonce, in bytes.
const keySize = 16

// checkHandshake refuses what could not be upgraded, before an agent is dialled or a session begins for it.
func checkHandshake(r *http.Request) error {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key"))
	fault := func(detail string) *problem.Problem { return problem.New(problem.Validation, detail) }
	switch {
	case !websocket.IsWebSocketUpgrade(r):
		return refuse(reasonNoWebSocket, fault("this is a WebSocket endpoint; request an upgrade").
			WithStatus(http.StatusUpgradeRequired).WithHeader("Upgrade", "websocket"))
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return refuse(reasonHandshake, fault("a WebSocket handshake needs HTTP/1.1"))
	case !slices.ContainsFunc(r.Header.Values("Sec-Websocket-Version"), speaks):
		return refuse(reasonHandshake, fault("Sec-WebSocket-Version must be "+version).
			WithStatus(
				http.StatusUpgradeRequired,
			).WithHeader("Sec-Websocket-Version", version).WithHeader("Upgrade", "websocket"))
	case err != nil || len(key) != keySize:
		return refuse(reasonHandshake, fault("Sec-WebSocket-Key must be 16 bytes in base64"))
	case r.ContentLength != 0:
		return refuse(reasonHandshake, fault("a WebSocket handshake must not have a body"))
	}
	return nil
}

func speaks(versions string) bool {
	return slices.ContainsFunc(
		strings.Split(versions, ","), func(v string) bool { return strings.TrimSpace(v) == version },
	)
}
