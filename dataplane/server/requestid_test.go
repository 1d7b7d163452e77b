package server

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestRequestIDOfAProxy checks which ids of requests are kept. Every other request gets a new one of 16 hex digits.
func TestRequestIDOfAProxy(t *testing.T) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	long := strings.Repeat("a", maxRequestID)
	for name, tc := range map[string]struct {
		remote string // empty: the proxy
		header http.Header
		want   string // empty: a new one
	}{
		"an id":                       {"", header("X-Request-Id", "r-1/2+3=~!"), "r-1/2+3=~!"},
		"the longest":                 {"", header("X-Request-Id", long), long},
		"a proxy in v6 notation":      {"[::ffff:10.0.0.9]:1", header("X-Request-Id", "r-1"), "r-1"},
		"a trace":                     {"", header("Traceparent", traceparent), trace},
		"both":                        {"", header("X-Request-Id", "r-1", "Traceparent", traceparent), "r-1"},
		"a bad id and a trace":        {"", header("X-Request-Id", "r 1", "Traceparent", traceparent), trace},
		"a later version":             {"", header("Traceparent", "01"+traceparent[2:]+"-more"), trace},
		"nothing":                     {"", header(), ""},
		"from a stranger":             {"203.0.113.9:1", header("X-Request-Id", "r-1", "Traceparent", traceparent), ""},
		"from a stranger by a header": {"203.0.113.9:1", header("X-Request-Id", "r-1", "X-Forwarded-For", "10.0.0.9"), ""},
		"from nowhere":                {"pipe", header("X-Request-Id", "r-1"), ""},
		"empty":                       {"", header("X-Request-Id", ""), ""},
		"too long":                    {"", header("X-Request-Id", long+"a"), ""},
		"a blank":                     {"", header("X-Request-Id", "r 1"), ""},
		"a new line":                  {"", header("X-Request-Id", "r\n1"), ""},
		"a control character":         {"", header("X-Request-Id", "r\x7f"), ""},
		"not ASCII":                   {"", header("X-Request-Id", "rufnummer-\u00fc"), ""},
		"not UTF-8":                   {"", header("X-Request-Id", "r\xff"), ""},
		"two ids":                     {"", header("X-Request-Id", "r-1", "X-Request-Id", "r-2"), ""},
		"two traces":                  {"", header("Traceparent", traceparent, "Traceparent", traceparent), ""},
		"a short trace":               {"", header("Traceparent", traceparent[:54]), ""},
		"a long trace":                {"", header("Traceparent", traceparent+"-more"), ""},
		"a later version of letters":  {"", header("Traceparent", "01"+traceparent[2:]+"more"), ""},
		"version ff":                  {"", header("Traceparent", "ff"+traceparent[2:]), ""},
		"upper case":                  {"", header("Traceparent", strings.ToUpper(traceparent)), ""},
		"a trace of zeros":            {"", header("Traceparent", "00-"+strings.Repeat("0", 32)+traceparent[35:]), ""},
		"a parent of zeros":           {"", header("Traceparent", traceparent[:36]+strings.Repeat("0", 16)+"-01"), ""},
		"parts of other sizes":        {"", header("Traceparent", "0-00af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			handler := Middleware(http.NotFoundHandler(), debugLog(&log), netip.MustParsePrefix("10.0.0.0/24"))
			req := httptest.NewRequest(http.MethodGet, "/", nil)
			req.RemoteAddr = "10.0.0.9:1234"
			if tc.remote != "" {
				req.RemoteAddr = tc.remote
			}
			req.Header = tc.header
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, req)
			got := recorder.Header().Get("X-Request-Id")
			isNew := len(got) == 16 && strings.Trim(got, "0123456789abcdef") == ""
			if (tc.want == "" && !isNew) || (tc.want != "" && got != tc.want) {
				t.Errorf("the id is %q, want %q", got, tc.want)
			}
			if !strings.Contains(log.String(), `"request":"`+got+`"`) {
				t.Errorf("the log does not have the id: %s", log.String())
			}
		})
	}
}

// TestRequestIDWithoutProxies checks that nothing is kept without trusted proxies.
func TestRequestIDWithoutProxies(t *testing.T) {
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Header.Set("X-Request-Id", "r-1")
	if got := requestID(req, nil); got == "r-1" {
		t.Error("a stranger chose the id")
	}
}

// debugLog returns a logger that writes every level as JSON.
func debugLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
