package main

import (
	"bytes"
	"crypto/md5" //nolint:gosec // an entity tag, no protection
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// source serves one file's bytes under any name, with length, entity tag and ranges, from memory.
type source struct {
	server *http.Server
	host   string
	served atomic.Int64
}

func newSource(size int) (*source, error) {
	body := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(body) // never fails
	copy(body, "ID3")     // so that it is taken for audio
	sum := md5.Sum(body)  //nolint:gosec // as above
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &source{host: l.Addr().String()}
	s.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			s.served.Add(1)
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Type", "audio/mpeg")
		http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), bytes.NewReader(body))
	})}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

func (s *source) url(sid string) string {
	return fmt.Sprintf("http://%s/exotelrecordings/bench/%s.mp3", s.host, sid)
}

func (s *source) close() { _ = s.server.Close() }
