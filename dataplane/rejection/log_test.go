package rejection

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caly-dev/caly/internal/testkit/logtest"
)

// lines returns the lines of a log.
func lines(t *testing.T, log *logtest.Buffer) (list []map[string]any) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		list = append(list, entry)
	}
	return list
}

func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logtest.Buffer
		l := New(slog.New(slog.NewJSONHandler(&log, nil)), "rejected a webhook")
		l.Add(Rejection{
			RequestID: "r-1",
			Tenant:    "acme/" + strings.Repeat("x", 1000),
			Address:   netip.MustParseAddr("192.0.2.7"),
			Route:     "/webhooks/exotel/{namespace}/{tenant}/status",
			Reason:    "wrong_signature",
		})
		l.Add(Rejection{Reason: "path"})
		got := lines(t, &log)
		if len(got) != 2 || got[1]["address"] != "" {
			t.Fatalf("%v", got)
		}
		for key, want := range map[string]string{
			"level":   "WARN",
			"msg":     "rejected a webhook",
			"request": "r-1",
			"tenant":  "acme/" + strings.Repeat("x", 123),
			"address": "192.0.2.7",
			"route":   "/webhooks/exotel/{namespace}/{tenant}/status",
			"reason":  "wrong_signature",
		} {
			if got[0][key] != want {
				t.Errorf("%s is %v, want %s", key, got[0][key], want)
			}
		}
		time.Sleep(window)
	})
}

// TestFlood logs ten lines of a reason in a minute and the number of the others. Other reasons have lines of their own.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logtest.Buffer
		l := New(slog.New(slog.NewJSONHandler(&log, nil)), "rejected")
		flood := func(n int) {
			var group sync.WaitGroup
			for i := range n {
				group.Go(func() { l.Add(Rejection{Reason: "a", RequestID: fmt.Sprint(i)}) })
			}
			group.Wait()
		}
		flood(1000)
		l.Add(Rejection{Reason: "b"})
		if got := lines(t, &log); len(got) != maxLines+1 || got[maxLines]["reason"] != "b" {
			t.Fatalf("%d lines, the last one %v", len(got), got[len(got)-1])
		}
		time.Sleep(window + time.Second)
		synctest.Wait()
		got := lines(t, &log)
		if len(got) != maxLines+2 || got[maxLines+1]["omitted"] != 990.0 || got[maxLines+1]["reason"] != "a" {
			t.Fatalf("%d lines after the window, the last one %v", len(got), got[len(got)-1])
		}
		before := len(got)
		flood(maxLines)
		time.Sleep(2 * window)
		synctest.Wait()
		l.mu.Lock()
		kept := len(l.reasons)
		l.mu.Unlock()
		if n := len(lines(t, &log)) - before; n != maxLines || kept != 0 {
			t.Errorf("%d lines in the next window, %d reasons are kept", n, kept)
		}
	})
}
