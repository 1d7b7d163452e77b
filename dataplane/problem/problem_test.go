package problem

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	for name, tc := range map[string]struct {
		problem        *Problem
		requestID      string
		wantBody       map[string]any
		wantRetryAfter string
	}{
		"all members of RFC 9457": {New(401, InvalidSignature, "Missing webhook signature"), "0a1b",
			map[string]any{"type": "about:blank", "title": "Unauthorized", "status": 401., "detail": "Missing webhook signature",
				"code": "invalid_signature", "requestId": "0a1b"}, ""},
		"no detail, no id": {New(500, Internal, ""), "",
			map[string]any{"type": "about:blank", "title": "Internal Server Error", "status": 500., "code": "internal"}, ""},
		"to be sent again": {&Problem{Type: "about:blank", Title: "Service Unavailable", Status: 503, Code: Unavailable, RetryAfter: 5 * time.Second}, "x",
			map[string]any{"type": "about:blank", "title": "Service Unavailable", "status": 503., "code": "unavailable", "requestId": "x"}, "5"},
		"after less than a second": {&Problem{Status: 503, Code: Unavailable, RetryAfter: 200 * time.Millisecond}, "",
			map[string]any{"type": "", "title": "", "status": 503., "code": "unavailable"}, "1"},
		"hostile detail": {New(400, Validation, "\"</script>\r\nX: y\xff"), "",
			map[string]any{"type": "about:blank", "title": "Bad Request", "status": 400., "code": "validation", "detail": "\"</script>\r\nX: y\ufffd"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			tc.problem.Write(w, tc.requestID)
			var got map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("the body is no JSON: %v: %s", err, w.Body)
			}
			if d := cmp.Diff(tc.wantBody, got); d != "" {
				t.Errorf("body (-want +got):\n%s", d)
			}
			h := w.Header()
			if w.Code != tc.problem.Status || h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("status %d, headers %v", w.Code, h)
			}
			if got := h.Get("Retry-After"); got != tc.wantRetryAfter {
				t.Errorf("Retry-After %q, want %q", got, tc.wantRetryAfter)
			}
		})
	}
}

// TestWriteLeavesTheProblem : one problem may answer many requests, each with its own id.
func TestWriteLeavesTheProblem(t *testing.T) {
	p := New(404, NotFound, "no such webhook")
	p.Write(httptest.NewRecorder(), "first")
	if p.RequestID != "" {
		t.Errorf("Write changed the problem: request id %q", p.RequestID)
	}
	var as *Problem
	if err := error(p); !errors.As(err, &as) || err.Error() != "not_found: no such webhook" {
		t.Errorf("as an error it says %q", err)
	}
}
