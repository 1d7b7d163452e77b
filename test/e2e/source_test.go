//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// source is the simulated Exotel that a test's recordings come from.
type source struct {
	*exotelsim.Server
	url string
}

func newSource(t *testing.T) *source {
	t.Helper()
	server, err := exotelsim.NewServer(exotelsim.Options{Listen: shared.hostIP + ":0", Key: "key", Token: "token"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &source{Server: server, url: server.URL()}
}

// recordings names n recordings of about the given size.
func (s *source) recordings(x *tenant, n, size int) []announced {
	list := make([]announced, n)
	for i := range list {
		sid := randomHex(16)
		list[i] = announced{
			callSID:   sid,
			sourceURL: exotelsim.RecordingURL(s.url, "acc"+x.ns[4:], sid, int64(size+i*1021)),
		}
	}
	return list
}

func path(r announced) string {
	address, _ := url.Parse(r.sourceURL)
	return address.Path
}

// slow serves the recordings at a number of bytes a second; 0 is as fast as it can.
func (s *source) slow(recs []announced, bytesPerSecond int) {
	for _, r := range recs {
		s.Set(path(r), exotelsim.Quirks{BytesPerSecond: bytesPerSecond})
	}
}

// gone answers 410 for a recording, or serves it again.
func (s *source) gone(r announced, yes bool) {
	quirks := exotelsim.Quirks{}
	if yes {
		quirks.Status = http.StatusGone
	}
	s.Set(path(r), quirks)
}

func (s *source) bytesServed() int64 { return s.BytesServed() }

// verify compares the tenant's bucket with the recordings: each is there once, under the tenant's prefix, byte for byte,
// and nothing else is.
func (s *source) verify(t *testing.T, x *tenant, recs []announced) {
	t.Helper()
	want := map[string]announced{}
	for _, r := range recs {
		want[fmt.Sprintf("%s/%s/%s-%s.mp3", x.ns, x.name, r.callSID, r.id())] = r
	}
	for _, key := range x.objects(t) {
		r, ok := want[key]
		if !ok {
			t.Errorf("object %s is not a recording of the test", key)
			continue
		}
		delete(want, key)
		x.compare(t, key, r)
	}
	for key := range want {
		t.Errorf("object %s is missing", key)
	}
}

func (x *tenant) compare(t *testing.T, key string, r announced) {
	t.Helper()
	obj, err := x.s3.GetObject(t.Context(), x.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = obj.Close() }()
	hash := sha256.New()
	n, err := io.Copy(hash, obj)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(hash.Sum(nil)), exotelsim.SHA256(path(r), sizeOf(r)); got != want {
		t.Errorf("object %s of %d bytes differs from its source", key, n)
	}
}

func sizeOf(r announced) int64 {
	var n int64
	_, _ = fmt.Sscan(r.sourceURL[strings.LastIndex(r.sourceURL, "=")+1:], &n)
	return n
}
