package upload

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/store"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	old := now.Add(-3 * time.Hour)
	young := now.Add(-time.Minute)
	tests := map[string]struct {
		rec       store.Recording
		f         fault
		wantFail  bool
		wantCount bool
		// wait from now, both inclusive
		wantFrom, wantTo time.Duration
	}{
		"first time": {store.Recording{
			Attempts:  0,
			CreatedAt: young,
		}, fault{kind: later}, false, true, 24 * time.Second, 36 * time.Second},
		"fifth time": {store.Recording{
			Attempts:  4,
			CreatedAt: young,
		}, fault{kind: later}, false, true, 384 * time.Second, 576 * time.Second},
		"eighth time": {store.Recording{
			Attempts:  8,
			CreatedAt: young,
		}, fault{kind: later}, false, true, 12 * time.Minute, 18 * time.Minute},
		"the server asked for 5m": {store.Recording{
			Attempts:  0,
			CreatedAt: young,
		}, fault{
			kind: later,
			wait: 5 * time.Minute,
		},
			false, true, 5 * time.Minute, 5 * time.Minute},
		"the server asked for 9h": {store.Recording{
			Attempts:  0,
			CreatedAt: young,
		}, fault{
			kind: later,
			wait: 9 * time.Hour,
		}, false, true, time.Hour, time.Hour},
		"last, old": {store.Recording{
			Attempts:  11,
			CreatedAt: old,
		}, fault{kind: later}, true, false, 0, 0},
		"last but one, old": {store.Recording{
			Attempts:  10,
			CreatedAt: old,
		}, fault{kind: later}, false, true, 12 * time.Minute, 18 * time.Minute},
		"past the last, young": {store.Recording{
			Attempts:  90,
			CreatedAt: young,
		}, fault{kind: later}, false, true, 12 * time.Minute, 18 * time.Minute},
		"never": {store.Recording{
			Attempts:  0,
			CreatedAt: young,
		}, fault{kind: never}, true, false, 0, 0},
		"tenant-wide, last, old": {store.Recording{
			Attempts:  11,
			CreatedAt: old,
		}, fault{kind: tenantWide}, false, false, time.Second, time.Second},
		"misconfigured": {store.Recording{
			Attempts:  0,
			CreatedAt: old,
		}, fault{kind: misconfigured}, false, false, time.Second, time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for range 50 { // jitter
				decision := decide(tc.rec, &tc.f, now, time.Second)
				if decision.Fail != tc.wantFail || decision.Count != tc.wantCount {
					t.Fatalf("got %+v", decision)
				}
				if w := decision.At.Sub(now); !decision.Fail && (w < tc.wantFrom || w > tc.wantTo) {
					t.Fatalf("due in %s, want %s to %s", w, tc.wantFrom, tc.wantTo)
				}
			}
		})
	}
}

// TestTwoHours verifies that a recording that never appears is tried for at least two hours before it fails.
func TestTwoHours(t *testing.T) {
	begun := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for range 20 {
		rec := store.Recording{CreatedAt: begun}
		now := begun
		for tries := 1; ; tries++ {
			decision := decide(rec, notReady("not there"), now, time.Second)
			if decision.Fail {
				if now.Sub(begun) < recording.Window || tries > 20 {
					t.Fatalf("failed after %s and %d tries", now.Sub(begun), tries)
				}
				break
			}
			now = decision.At
			rec.Attempts++
		}
	}
}

func TestTrouble(t *testing.T) {
	tr := &trouble{tries: 2}
	f := &fault{kind: misconfigured, text: "no bucket"}
	for range 8 { // all of one episode
		tr.add(f, 0, time.Now())
	}
	if err := tr.err(); err != nil {
		t.Fatalf("gave up after one episode: %v", err)
	}
	tr.over()
	tr.add(f, tr.episode(), time.Now())
	if err := tr.err(); err != nil {
		t.Fatalf("gave up although there was a success: %v", err)
	}
	tr.add(f, tr.episode(), time.Now())
	if err := tr.err(); ExitCode(err) != ExitConfig || !errors.Is(err, f) {
		t.Errorf("got %v, want a ConfigError", err)
	}
}

func TestDigest(t *testing.T) {
	noLeak(t)
	lanes := newLanes()
	defer lanes.close()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	sum := md5.Sum(data)
	for name, r := range map[string]io.Reader{
		"plain":         bytes.NewReader(data),
		"single bytes":  iotest.OneByteReader(bytes.NewReader(data)),
		"end with data": iotest.DataErrReader(bytes.NewReader(data)),
	} {
		digest := newDigest(lanes, r, int64(len(data)), true)
		if err := drain(digest); err != nil || !digest.complete(-1) {
			t.Errorf("%s: %v, complete %v", name, err, digest.complete(-1))
		}
		sums := digest.sums()
		if sums.size != int64(len(data)) || sums.md5 != hex.EncodeToString(sum[:]) || !sums.matches(sums.md5) ||
			!sums.matches(sums.multipart) ||
			sums.matches("") {
			t.Errorf("%s: %+v", name, sums)
		}
		digest.close()
	}
	digest := newDigest(lanes, bytes.NewReader(data), int64(len(data))-1, false)
	if err := drain(digest); asFault(err).code != reason.SourceTooLarge || digest.complete(-1) {
		t.Errorf("over the limit: %v", err)
	}
	digest = newDigest(lanes, iotest.TimeoutReader(bytes.NewReader(data)), 1<<20, false)
	if err := drain(digest); err == nil || digest.complete(int64(len(data))+1) {
		t.Errorf("broken: %v", err)
	}
	if sums := newDigest(lanes, strings.NewReader(""), 1, false).sums(); sums.matches("") {
		t.Error("an unknown multipart ETag matches the empty one")
	}
}

// TestGate verifies that the gate finds a store that stalls and does not take a slow source for one. A closed gate
// passes no bytes.
func TestGate(t *testing.T) { synctest.Test(t, testGate) }

func testGate(t *testing.T) {
	const stall = time.Minute
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	slow := readerFunc(func(p []byte) (int, error) { time.Sleep(2 * stall); return len(p), nil })
	gate := newGate(slow, stall, cancel)
	for range 3 {
		if _, err := gate.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if ctx.Err() != nil {
		t.Fatal("a slow source was taken for a store that stalls")
	}
	read := time.Now()
	<-ctx.Done()
	if waited := time.Since(read); waited != stall {
		t.Errorf("the stall was noticed after %s, want %s", waited, stall)
	}
	if !errors.Is(context.Cause(ctx), errStorageStalled) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
	gate.close()
	if _, err := gate.Read(make([]byte, 1)); !errors.Is(err, errGateClosed) {
		t.Errorf("a closed gate gives %v", err)
	}
}

func TestExitCode(t *testing.T) {
	for want, err := range map[int]error{
		0:              nil,
		exitTransient:  store.ErrUnavailable,
		ExitConfig:     fmt.Errorf("x: %w", &configError{io.EOF}),
		ExitTerminated: errTerminated,
	} {
		if got := ExitCode(err); got != want {
			t.Errorf("ExitCode(%v) = %d, want %d", err, got, want)
		}
	}
}

func TestOpenBreakerIsTenantWide(t *testing.T) {
	for dependency, code := range map[string]string{
		dependencyExotel: reason.SourceUnavailable,
		dependencyS3:     reason.StorageUnavailable,
	} {
		fault := asFault(resilience.Abort(&resilience.OpenError{
			Dependency: dependency,
			Until:      time.Now().Add(time.Minute),
		}))
		if fault.kind != tenantWide || fault.code != code || fault.wait < 50*time.Second {
			t.Errorf("%s: %+v", dependency, fault)
		}
	}
}
