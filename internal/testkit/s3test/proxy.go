package s3test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"testing"
)

// Fault is what a Proxy does with one request.
type Fault int

// Faults.
const (
	// Pass the request and its answer on.
	Pass Fault = iota
	// CutAnswer lets the server do its work and then cuts the connection: the client cannot know.
	CutAnswer
	// Refuse answers 503 SlowDown without asking the server.
	Refuse
	// WrongETag passes the request on and answers with another object's ETag.
	WrongETag
	// Corrupt changes a byte of the request's body on the way to the server.
	Corrupt
	// CorruptAnswer changes a byte of the answer's body on the way to the client.
	CorruptAnswer
	// CutBody sends the beginning of the answer's body and cuts the connection.
	CutBody
	// Hang takes the request and answers nothing until the client goes.
	Hang
	// Shorten passes the request on and answers HEAD with one byte less than the object has.
	Shorten
)

// Proxy stands between a client and a Server, to break what a network breaks.
type Proxy struct {
	// URL is the endpoint for the client.
	URL string
}

// NewProxy asks decide, which must be safe for concurrent use, about each request.
func NewProxy(t testing.TB, s *Server, decide func(*http.Request) Fault) *Proxy {
	t.Helper()
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	forward := &httputil.ReverseProxy{
		// The Host header stays as the client signed it.
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport: transport,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, decide(r), forward)
	}))
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	return &Proxy{URL: server.URL}
}

func serve(w http.ResponseWriter, r *http.Request, f Fault, forward http.Handler) {
	switch f {
	case CutAnswer:
		forward.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler) // net/http's way to cut a connection
	case Refuse:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>`))
	case WrongETag:
		rec := httptest.NewRecorder()
		forward.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Set("ETag", `"00000000000000000000000000000000"`)
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	case Shorten:
		forward.ServeHTTP(&shortened{w}, r)
	case CorruptAnswer, CutBody:
		rec := httptest.NewRecorder()
		forward.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		body := rec.Body.Bytes()
		if f == CutBody {
			_, _ = w.Write(body[:len(body)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		body[len(body)/2] ^= 1
		_, _ = w.Write(body)
	case Corrupt:
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) == 0 {
			panic(http.ErrAbortHandler)
		}
		body[len(body)/2] ^= 1
		r.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(w, r)
	case Hang:
		_, _ = io.Copy(io.Discard, r.Body) // only then does net/http notice that the client goes
		<-r.Context().Done()
	default:
		forward.ServeHTTP(w, r)
	}
}

// shortened passes an answer on whose Content-Length is one byte less.
type shortened struct{ http.ResponseWriter }

func (s *shortened) WriteHeader(status int) {
	if n, err := strconv.Atoi(s.Header().Get("Content-Length")); err == nil && n > 0 {
		s.Header().Set("Content-Length", strconv.Itoa(n-1))
	}
	s.ResponseWriter.WriteHeader(status)
}
