package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestDeadReason checks that only a refusal that will be the same again makes an event a dead one.
func TestDeadReason(t *testing.T) {
	pgtest.SameOnEachServer(t)
	refused := func(code string) error { return fmt.Errorf("ingest: %w", &store.ServerError{Code: code}) }
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"none":                  {nil, ""},
		"bad bytes":             {refused("22021"), reason.DeadRefused},
		"a check":               {refused("23514"), reason.DeadRefused},
		"too many recordings":   {fmt.Errorf("ingest: %w", store.ErrTooManyRecordings), reason.DeadTooManyRecordings},
		"serialization failure": {refused("40001"), ""},
		"deadlock":              {refused("40P01"), ""},
		"lock not available":    {refused("55P03"), ""},
		"unreachable":           {store.ErrUnavailable, ""},
		"something else":        {errors.New("cut"), ""},
	} {
		if got := store.DeadReason(tc.err); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
