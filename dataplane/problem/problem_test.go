package problem

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	for name, tc := range map[string]struct {
		problem    *Problem
		requestID  string
		wantBody   map[string]any
		wantHeader http.Header
	}{
		"all members of RFC 9457": {New(InvalidSignature, "Missing webhook signature"), "0a1b",
			map[string]any{
				"type":      "https://caly.dev/problems/invalid_signature",
				"title":     "The signature is not valid",
				"status":    401.,
				"detail":    "Missing webhook signature",
				"code":      "invalid_signature",
				"requestId": "0a1b",
			}, nil},
		"no detail, no id": {New(Internal, ""), "",
			map[string]any{
				"type":   "https://caly.dev/problems/internal",
				"title":  "Internal error",
				"status": 500.,
				"code":   "internal",
			}, nil},
		"another of its statuses": {New(NotFound, "").WithStatus(405).WithHeader("Allow", "GET").WithHeader("Allow", "POST"), "",
			map[string]any{
				"type":   "https://caly.dev/problems/not_found",
				"title":  "Not found",
				"status": 405.,
				"code":   "not_found",
			},
			http.Header{"Allow": {"GET", "POST"}}},
		"to be sent again": {New(Unavailable, "").WithRetryAfter(5 * time.Second), "x",
			map[string]any{
				"type":      "https://caly.dev/problems/unavailable",
				"title":     "Temporarily unavailable",
				"status":    503.,
				"code":      "unavailable",
				"requestId": "x",
			},
			http.Header{"Retry-After": {"5"}}},
		"after less than a second": {New(Unavailable, "").WithRetryAfter(200 * time.Millisecond), "",
			map[string]any{
				"type":   "https://caly.dev/problems/unavailable",
				"title":  "Temporarily unavailable",
				"status": 503.,
				"code":   "unavailable",
			},
			http.Header{"Retry-After": {"1"}}},
		"fields": {New(Validation, "").WithField("/a/0", "too long").WithField("limit", "no number"), "",
			map[string]any{
				"type":   "https://caly.dev/problems/validation",
				"title":  "The request is not valid",
				"status": 400.,
				"code":   "validation",
				"errors": []any{map[string]any{
					"path":    "/a/0",
					"message": "too long",
				}, map[string]any{
					"path":    "limit",
					"message": "no number",
				}},
			}, nil},
		"the cause is not told": {New(Database, "away").WithCause(errors.New("canary")), "",
			map[string]any{
				"type":   "https://caly.dev/problems/database",
				"title":  "The database is not available",
				"status": 503.,
				"code":   "database",
				"detail": "away",
			}, nil},
		"hostile detail": {New(Validation, "\"</script>\r\nX: y\xff"), "",
			map[string]any{
				"type":   "https://caly.dev/problems/validation",
				"title":  "The request is not valid",
				"status": 400.,
				"code":   "validation",
				"detail": "\"</script>\r\nX: y\ufffd",
			}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			tc.problem.Write(recorder, tc.requestID)
			var got map[string]any
			if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil {
				t.Fatalf("the body is not JSON: %v: %s", err, recorder.Body)
			}
			if d := cmp.Diff(tc.wantBody, got); d != "" {
				t.Errorf("body (-want +got):\n%s", d)
			}
			want := http.Header{"Content-Type": {"application/problem+json"}, "Cache-Control": {"no-store"}}
			for name, values := range tc.wantHeader {
				want[name] = values
			}
			if d := cmp.Diff(want, recorder.Header()); d != "" || recorder.Code != tc.problem.Status {
				t.Errorf("status %d, headers (-want +got):\n%s", recorder.Code, d)
			}
		})
	}
}

// TestProblemsDoNotChange verifies that one problem can answer many requests, each with its own additions.
func TestProblemsDoNotChange(t *testing.T) {
	cause := errors.New("cause")
	problem := New(NotFound, "no such webhook")
	shared := problem.WithField("a", "1").WithHeader("A", "1")
	for range 2 { // the second time would see what the first left in shared memory
		q := shared.WithField(
			"b", "2",
		).WithHeader("A", "2").WithStatus(405).WithRetryAfter(time.Second).WithCause(cause)
		if len(q.Fields) != 2 || len(q.Header["A"]) != 2 || q.Status != 405 || !errors.Is(q, cause) {
			t.Errorf("the other one is %+v", q)
		}
		q.Write(httptest.NewRecorder(), "first")
	}
	if d := cmp.Diff(
		New(NotFound, "no such webhook"), problem,
	); d != "" || len(shared.Fields) != 1 || len(shared.Header["A"]) != 1 ||
		shared.RequestID != "" {
		t.Errorf("it has changed: %+v, %s", shared, d)
	}
	var as *Problem
	if err := error(problem.WithCause(cause)); !errors.As(err, &as) ||
		err.Error() != "not_found: no such webhook: cause" {
		t.Errorf("as an error it says %q", err)
	}
}

// TestFieldsAreBounded verifies that a problem has at most maxFields fields.
func TestFieldsAreBounded(t *testing.T) {
	problem := New(Validation, "")
	for i := range 10 * maxFields {
		problem = problem.WithField(strconv.Itoa(i), "wrong")
	}
	if len(problem.Fields) != maxFields || problem.Fields[maxFields-1].Path != strconv.Itoa(maxFields-1) {
		t.Errorf("%d fields", len(problem.Fields))
	}
}
