package main

import (
	"bytes"
	"crypto/md5" //nolint:gosec // an entity tag, no protection
	"encoding/binary"
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
	body := audioFile(size)
	sum := md5.Sum(body) //nolint:gosec // as above
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &source{host: l.Addr().String()}
	s.server = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				s.served.Add(1)
			}
			w.Header().Set("ETag", etag)
			w.Header().Set("Content-Type", "audio/wav")
			http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), bytes.NewReader(body))
		}),
	}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

// audioFile returns a WAV file of size bytes, at least 44: noise with 8,000 samples a second, 16 bits each.
func audioFile(size int) []byte {
	const header = 44
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body[header:]) // never fails
	b := append(body[:0], "RIFF"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(size-8)) //nolint:gosec // a few megabytes
	b = append(b, "WAVEfmt "...)
	for _, field := range []uint32{16, 1<<16 | 1, 8000, 16000, 16<<16 | 2} {
		b = binary.LittleEndian.AppendUint32(b, field)
	}
	b = append(b, "data"...)
	binary.LittleEndian.AppendUint32(b, uint32(size-header)) //nolint:gosec // a few megabytes
	return body
}

func (s *source) url(sid string) string {
	return fmt.Sprintf("http://%s/exotelrecordings/bench/%s.mp3", s.host, sid)
}

func (s *source) close() { _ = s.server.Close() }
