// Package interop holds the stream endpoint and the bridge to other people's implementations of WebSocket, in both roles.
// Its tests run with make test-interop, which installs those.
package interop
