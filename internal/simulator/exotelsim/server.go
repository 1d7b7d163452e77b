// Package exotelsim is a stand-in for Exotel: it serves recordings and Call Details as Exotel does, with its quirks as
// switches, and sends webhooks in every documented spelling.
package exotelsim

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Server.
type Options struct {
	// Listen is an address; empty means 127.0.0.1:0.
	Listen string
	// Key and Token are the Basic credentials; without a key none are asked for.
	Key, Token string
	// Size of a recording whose URL does not say ?size=.
	Size int64
	// Zone in which Call Details writes times and reads filters; nil means IST.
	Zone *time.Location
	// Now is the clock of Call Details; nil means the real one.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Size == 0 {
		o.Size = 64 << 10
	}
	if o.Zone == nil {
		o.Zone = ist
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Quirks of one recording, or of all.
type Quirks struct {
	// NotReady is how many requests are answered 404 first.
	NotReady int
	// TooMany is how many requests are answered 429 with Retry-After: 1 first.
	TooMany int
	// Status answers this instead of the recording, for as long as it is set.
	Status int
	// BytesPerSecond slows the body down; 0 does not.
	BytesPerSecond int
	// TruncateAt is the number of bytes after which the connection is cut, Truncations times.
	TruncateAt  int64
	Truncations int
	// NoRange answers 200 with everything to a Range request.
	NoRange bool
	// NoLength sends the body chunked.
	NoLength bool
	// ChangeETag gives every answer another entity tag.
	ChangeETag bool
	// HTML answers 200 with a page instead of audio.
	HTML bool
}

// Server serves recordings below /exotelrecordings/{account}/{call}.mp3, made from their paths: the same bytes every time.
// Of calls that were placed it tells below /v1/Accounts/{account}/Calls.
type Server struct {
	o        Options
	listener net.Listener
	http     *http.Server

	mu     sync.Mutex
	all    Quirks
	quirks map[string]*Quirks // by path
	seen   map[string]int     // requests by path

	allDetails   DetailQuirks
	detailQuirks map[string]*DetailQuirks         // by path
	placed       map[string]map[string]PlacedCall // by account and id

	served atomic.Int64
	tags   atomic.Int64
}

// NewServer starts a server.
func NewServer(o Options) (*Server, error) {
	o = o.withDefaults()
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen as Exotel: %w", err)
	}
	server := &Server{
		o:            o,
		listener:     l,
		quirks:       map[string]*Quirks{},
		seen:         map[string]int{},
		detailQuirks: map[string]*DetailQuirks{},
		placed:       map[string]map[string]PlacedCall{},
	}
	server.http = &http.Server{Handler: server, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.http.Serve(l) }()
	return server, nil
}

// Close ends the server and its connections.
func (s *Server) Close() { _ = s.http.Close() }

// Addr is where it listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is its base URL.
func (s *Server) URL() string { return "http://" + s.Addr() }

// RecordingURL of a call, size bytes long.
func RecordingURL(base, account, callSID string, size int64) string {
	return fmt.Sprintf("%s/exotelrecordings/%s/%s.mp3?size=%d", base, account, callSID, size)
}

// Set gives one recording, by its URL's path, quirks of its own.
func (s *Server) Set(path string, q Quirks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quirks[path] = &q
}

// SetAll gives quirks to every recording without its own.
func (s *Server) SetAll(q Quirks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = q
}

// Requests tells how often a path was asked for, a recording's or one of Call Details.
func (s *Server) Requests(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[path]
}

// BytesServed of recordings, over all.
func (s *Server) BytesServed() int64 { return s.served.Load() }

// ServeHTTP serves one recording, or one answer of Call Details.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "Apache")
	switch {
	case strings.HasPrefix(r.URL.Path, "/exotelrecordings/"):
		s.serveRecording(w, r)
	case strings.HasPrefix(r.URL.Path, accountsPrefix):
		s.serveDetails(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) serveRecording(w http.ResponseWriter, r *http.Request) {
	if !s.authorised(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Exotel"`)
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	quirks := s.take(r.URL.Path)
	switch {
	case quirks.Status != 0:
		http.Error(w, "", quirks.Status)
	case quirks.NotReady > 0:
		http.NotFound(w, r)
	case quirks.TooMany > 0:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "", http.StatusTooManyRequests)
	case quirks.HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>one moment</html>")
	default:
		s.serve(w, r, quirks)
	}
}

func (s *Server) authorised(r *http.Request) bool {
	if s.o.Key == "" {
		return true
	}
	key, token, _ := r.BasicAuth()
	return subtle.ConstantTimeCompare([]byte(key+"\x00"+token), []byte(s.o.Key+"\x00"+s.o.Token)) == 1
}

// take counts the request and uses up one of each quirk that has a number.
func (s *Server) take(path string) Quirks {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[path]++
	own, ok := s.quirks[path]
	if !ok {
		fresh := s.all
		own = &fresh
		s.quirks[path] = own
	}
	now := *own
	switch {
	case own.NotReady > 0:
		own.NotReady--
	case own.TooMany > 0:
		own.TooMany--
	case own.Truncations > 0:
		own.Truncations--
	}
	return now
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, q Quirks) {
	size := s.size(r)
	tag := `"` + r.URL.Path + strconv.FormatInt(size, 10) + `"`
	if q.ChangeETag {
		tag = fmt.Sprintf("%q", strconv.FormatInt(s.tags.Add(1), 10))
	}
	w.Header().Set("ETag", tag)
	w.Header().Set("Content-Type", "audio/mpeg")
	from := int64(0)
	if start, ok := rangeStart(r, tag); ok && !q.NoRange && start < size {
		from = start
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, size-1, size))
	}
	if !q.NoLength {
		w.Header().Set("Content-Length", strconv.FormatInt(size-from, 10))
	}
	if !q.NoRange {
		w.Header().Set("Accept-Ranges", "bytes")
	}
	if w.Header().Get("Content-Range") != "" {
		w.WriteHeader(http.StatusPartialContent)
	}
	if r.Method == http.MethodHead {
		return
	}
	s.send(w, r, q, io.NewSectionReader(Audio(r.URL.Path), from, size-from))
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, q Quirks, body io.Reader) {
	if q.Truncations > 0 {
		body = io.LimitReader(body, q.TruncateAt)
	}
	buf := make([]byte, 32<<10)
	if q.BytesPerSecond > 0 {
		buf = buf[:min(len(buf), max(1, q.BytesPerSecond/10))]
	}
	for r.Context().Err() == nil {
		n, err := body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			s.served.Add(int64(n))
		}
		if err != nil {
			break
		}
		if q.BytesPerSecond > 0 {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	}
	if q.Truncations > 0 {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // cuts the connection in the middle of the body
	}
}

func (s *Server) size(r *http.Request) int64 {
	if n, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64); err == nil && n >= 0 && n <= 1<<32 {
		return n
	}
	return s.o.Size
}

// rangeStart reads "bytes=N-" where If-Range is absent or names the entity that is there.
func rangeStart(r *http.Request, tag string) (int64, bool) {
	spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	if !ok || (r.Header.Get("If-Range") != "" && r.Header.Get("If-Range") != tag) {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(spec, "-"), 10, 64)
	return n, err == nil && n >= 0
}

// SHA256 of the recording with that path and size, in hex.
func SHA256(path string, size int64) string {
	hash := sha256.New()
	_, _ = io.Copy(hash, io.NewSectionReader(Audio(path), 0, size)) // neither fails
	return hex.EncodeToString(hash.Sum(nil))
}
