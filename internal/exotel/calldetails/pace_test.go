package calldetails

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// hasty never waits for a server that asks for a second.
func hasty() *resilience.Registry {
	return resilience.NewRegistry(resilience.Options{Policy: resilience.Policy{
		BaseDelay: time.Millisecond,
		MaxDelay:  10 * time.Millisecond,
	}}, nil)
}

// TestPatience verifies that a client waits out a short Retry-After and gives up on a long one. Another client of the
// account waits too.
func TestPatience(t *testing.T) {
	for name, tc := range map[string]struct {
		tooMany      int
		after        time.Duration
		patience     time.Duration
		wantErr      error
		wantRequests int
		wantLeast    time.Duration
	}{
		"waited out":          {1, time.Second, 2 * time.Second, nil, 2, time.Second},
		"asked for too often": {9, time.Second, 2 * time.Second, errRateLimited, 3, 2 * time.Second},
		"no patience":         {1, time.Second, 0, errRateLimited, 1, 0},
		"too long":            {1, 30 * time.Second, 2 * time.Second, errRateLimited, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			pace := NewPacer(-1)
			mine := func(c *Config) { c.Pace, c.Patience, c.Registry = pace, tc.patience, hasty() }
			client, server := against(t, mine)
			server.Place("acme1", placed("c1", today), placed("c2", today))
			server.SetDetails("/v1/Accounts/acme1/Calls/c1.json", exotelsim.DetailQuirks{
				TooMany:    tc.tooMany,
				RetryAfter: tc.after,
			})
			begun := time.Now()
			_, err := client.Call(t.Context(), "c1")
			if !errors.Is(err, tc.wantErr) || server.Requests("/v1/Accounts/acme1/Calls/c1.json") != tc.wantRequests ||
				time.Since(begun) < tc.wantLeast {
				t.Errorf(
					"%v after %d requests and %s; want %v after %d and at least %s",
					err,
					server.Requests("/v1/Accounts/acme1/Calls/c1.json"),
					time.Since(begun),
					tc.wantErr,
					tc.wantRequests,
					tc.wantLeast,
				)
			}
			if tc.wantErr == nil {
				return
			}
			other := config(t, server.URL())
			other.Pace = pace
			_, err = newClient(t, other).Call(t.Context(), "c2")
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, errRateLimited) || e.RetryAfter <= 0 ||
				server.Requests("/v1/Accounts/acme1/Calls/c2.json") != 0 {
				t.Errorf("another client of the account got %v; want to be told to wait, and nothing asked", err)
			}
		})
	}
}

// TestHold checks that callers that come while the account is held back get a turn after that, in the usual order.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pacer := NewPacer(0)
		pacer.hold(10 * time.Second)
		pacer.hold(time.Second) // does not shorten it
		if pacer.Idle() || pacer.holds() != 10*time.Second {
			t.Errorf("held for %s, idle %v; want 10s", pacer.holds(), pacer.Idle())
		}
		begun := time.Now()
		for i := range 3 {
			if err := pacer.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := time.Since(begun), 10*time.Second+time.Duration(i)*defaultInterval; got != want {
				t.Errorf("turn %d came after %s, want %s", i, got, want)
			}
		}
		pacer.hold(1000 * time.Hour)
		if pacer.holds() != maxHold {
			t.Errorf("held for %s, want no more than %s", pacer.holds(), maxHold)
		}
		time.Sleep(maxHold)
		if !pacer.Idle() {
			t.Error("not idle after its time")
		}
	})
}

func TestUses(t *testing.T) {
	for name, tc := range map[string]struct {
		phone, number string
		want          bool
	}{
		"as it is":          {"+918047491899", "+918047491899", true},
		"national":          {"08047491899", "+918047491899", true},
		"another":           {"08047491898", "+918047491899", false},
		"none":              {"", "+918047491899", false},
		"hidden":            {"0XXXXXX1899", "+918047491899", false},
		"an end of another": {"7491899", "+918047491899", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Call{PhoneNumber: tc.phone}).Uses(tc.number); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
