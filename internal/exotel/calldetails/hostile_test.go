package calldetails

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestHugeAnswers asks an API that answers with as much as fits into the bound of a body. A Tenant names the API,
// so it is not Exotel. The listing ends with one error, and decoding allocates a small multiple of the body.
func TestHugeAnswers(t *testing.T) {
	fill := func(begin, one, end string) string {
		return begin + one[1:] + strings.Repeat(one, (maxBody-len(begin)-len(end))/len(one)-1) + end
	}
	const page = `{"Metadata":{"NextPageUri":null},"Calls":[`
	call := `{"Call":{"Sid":"c1","Status":"completed","Details":{"Legs":[`
	tests := map[string]struct {
		body     string
		wantText string
	}{
		"numbers":         {fill(page, ",0", `]}`), "more than 1000 calls"},
		"empty records":   {fill(page, ",{}", `]}`), "more than 1000 calls"},
		"legs":            {fill(page+`{"Sid":"c1","Details":{"Legs":[`, ",0", `]}}]}`), "bytes"},
		"one long record": {page + `{"Sid":"c1","Price":"` + strings.Repeat("1", maxBody-100) + `"}]}`, "bytes"},
		"other fields":    {fill(`{"Metadata":{},"Calls":[],"Other":[`, ",0", `]}`), ""},
	}
	single := map[string]string{
		"legs":         fill(call, ",0", `]}}}`),
		"other fields": fill(`{"Call":{"Sid":"c1","Other":[`, ",0", `]}}`),
	}
	server := func(t *testing.T, body string) *Client {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return newClient(t, config(t, s.URL))
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			client := server(t, tc.body)
			var errs int
			var last error
			allocated := allocatedBy(func() {
				for _, err := range client.Calls(t.Context(), Filter{CreatedFrom: time.Now().Add(-time.Hour)}) {
					if err != nil {
						errs++
						last = err
					}
				}
			})
			t.Logf("%d errors, %d MiB allocated: %.200v", errs, allocated>>20, last)
			if errs > 1 || allocated > 48<<20 {
				t.Errorf("%d errors and %d MiB, want one at most, and 48 MiB", errs, allocated>>20)
			}
			if tc.wantText != "" &&
				(!errors.Is(last, ErrUnreadable) || !strings.Contains(fmt.Sprint(last), tc.wantText)) {
				t.Errorf("got %.300v, want it unreadable, with %q", last, tc.wantText)
			}
		})
	}
	for name, body := range single {
		t.Run("one call, "+name, func(t *testing.T) {
			client := server(t, body)
			var err error
			allocated := allocatedBy(func() { _, err = client.Call(t.Context(), "c1") })
			t.Logf("%d MiB allocated: %.200v", allocated>>20, err)
			if !errors.Is(err, ErrUnreadable) || allocated > 48<<20 {
				t.Errorf("%d MiB and %.300v, want it unreadable and 48 MiB at most", allocated>>20, err)
			}
		})
	}
}

func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
