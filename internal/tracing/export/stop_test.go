package export

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestShutdownClosesConnection checks that the collector's connection ends with the provider.
func TestShutdownClosesConnection(t *testing.T) {
	closed := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	p, counts := start(t, Options{Endpoint: server.URL})
	spans(p, 1)
	eventually.Holds(t, "the span is exported", func() bool { return counts()["exported"] == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	p.Shutdown(ctx)
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("the connection to the collector is open after the shutdown")
	}
}
