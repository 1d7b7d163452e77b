package objectstore_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/objectstore"
)

// asked notes the largest piece that it was asked for.
type asked struct {
	r    io.Reader
	most int
}

func (a *asked) Read(p []byte) (int, error) {
	a.most = max(a.most, len(p))
	return a.r.Read(p)
}

// TestBodiesGoOutInPieces verifies that the server gets each body unchanged, and that the connection reads it in pieces
// of the expected size.
func TestBodiesGoOutInPieces(t *testing.T) {
	for name, tc := range map[string]struct {
		size     int
		tls      bool
		wantMost int // 0 for any
	}{
		"less than one": {5, false, 0},
		"many pieces":   {1<<20 + 3, false, 64 << 10},
		"encrypted too": {1<<20 + 3, true, 32 << 10}, // net/http's own
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan []byte, 1)
			start := httptest.NewServer
			if tc.tls {
				start = httptest.NewTLSServer
			}
			server := start(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Errorf("the server read: %v", err)
				}
				got <- body
			}))
			defer server.Close()
			transport := objectstore.NewTransport(loopback, 1)
			transport.SetTLS(server.Client().Transport.(*http.Transport).TLSClientConfig)
			defer transport.CloseIdleConnections()
			want := audio(tc.size)
			src := &asked{r: bytes.NewReader(want)}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, io.NopCloser(src))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = int64(tc.size)
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if diff := cmp.Diff(md5hex(want), md5hex(<-got)); diff != "" {
				t.Errorf("what arrived (-want +got):\n%s", diff)
			}
			if tc.wantMost > 0 && src.most != tc.wantMost {
				t.Errorf("the body was asked for %d bytes at most, want %d", src.most, tc.wantMost)
			}
		})
	}
}
