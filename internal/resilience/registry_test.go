package resilience

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var errDown = &HTTPError{Host: "h", Status: 503}

// script answers call after call; the last answer stays.
type script struct {
	answers []error
	calls   int
}

func (s *script) call(context.Context) error {
	err := s.answers[min(s.calls, len(s.answers)-1)]
	s.calls++
	return err
}

func TestRetry(t *testing.T) {
	busy := func(d time.Duration) error { return &HTTPError{Host: "h", Status: 429, RetryAfter: d} }
	refused := &HTTPError{Host: "h", Status: 403}
	tests := map[string]struct {
		answers            []error
		wantErr            error
		wantCalls          int
		wantStats          Stats
		wantAtLeast, under time.Duration
	}{
		"at once": {[]error{nil}, nil, 1, Stats{RetrySuccessRate: "0.00%"}, 0, time.Millisecond},
		"second time": {[]error{errDown, nil}, nil, 2, Stats{
			TotalRetries:      1,
			SuccessfulRetries: 1,
			RetrySuccessRate:  "100.00%",
			RetrySuccessRatio: 1,
		}, 0, time.Second},
		"never": {[]error{errDown}, errDown, 3, Stats{
			TotalRetries:     2,
			FailedRetries:    1,
			RetrySuccessRate: "0.00%",
		}, 0, 2 * time.Second},
		"refused": {[]error{refused}, refused, 1, Stats{RetrySuccessRate: "0.00%"}, 0, time.Millisecond},
		"down, then refused": {[]error{errDown, refused}, refused, 2, Stats{
			TotalRetries:     1,
			FailedRetries:    1,
			RetrySuccessRate: "0.00%",
		}, 0, time.Second},
		"asks for 7s": {[]error{busy(7 * time.Second), nil}, nil, 2, Stats{
			TotalRetries:      1,
			SuccessfulRetries: 1,
			RetrySuccessRate:  "100.00%",
			RetrySuccessRatio: 1,
		}, 7 * time.Second, 8 * time.Second},
		"asks for too long": {
			[]error{busy(time.Hour), nil},
			busy(time.Hour),
			1,
			Stats{RetrySuccessRate: "0.00%"},
			0,
			time.Millisecond,
		},
		"given up by a mark": {
			[]error{Abort(errDown), nil},
			Abort(errDown),
			1,
			Stats{RetrySuccessRate: "0.00%"},
			0,
			time.Millisecond,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				registry := NewRegistry(Options{}, nil)
				s := &script{answers: tc.answers}
				begun := time.Now()
				err := registry.Do(t.Context(), "ns/t", "s3", s.call)
				if fmt.Sprint(err) != fmt.Sprint(tc.wantErr) {
					t.Errorf("got %v, want %v", err, tc.wantErr)
				}
				if s.calls != tc.wantCalls {
					t.Errorf("%d calls, want %d", s.calls, tc.wantCalls)
				}
				if d := cmp.Diff(tc.wantStats, registry.Stats()); d != "" {
					t.Errorf("statistics (-want +got):\n%s", d)
				}
				if took := time.Since(begun); took < tc.wantAtLeast || took > tc.under {
					t.Errorf("took %s, want %s to %s", took, tc.wantAtLeast, tc.under)
				}
			})
		})
	}
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := NewRegistry(Options{FailureThreshold: 3, OpenFor: time.Minute, Policy: Policy{MaxAttempts: 1}}, nil)
		down := &script{answers: []error{errDown}}
		up := &script{answers: []error{nil}}
		for range 3 {
			if err := registry.Do(t.Context(), "ns/t", "s3", down.call); !errors.Is(err, errDown) {
				t.Fatal(err)
			}
		}
		var open *OpenError
		if err := registry.Do(t.Context(), "ns/t", "s3", up.call); !errors.As(err, &open) || up.calls != 0 {
			t.Fatalf("got %v after %d calls, want a refusal", err, up.calls)
		}
		if left := time.Until(open.Until); left < 50*time.Second || left > 70*time.Second {
			t.Errorf("refused for %s, want about a minute", left)
		}
		for _, other := range []struct{ tenant, dependency string }{{"ns/other", "s3"}, {"ns/t", "exotel"}} {
			if err := registry.Do(t.Context(), other.tenant, other.dependency, up.call); err != nil {
				t.Errorf("%v suffers too: %v", other, err)
			}
		}
		time.Sleep(70 * time.Second)
		if err := registry.Do(t.Context(), "ns/t", "s3", down.call); !errors.Is(err, errDown) {
			t.Errorf("the trial: %v", err)
		}
		if err := registry.Do(t.Context(), "ns/t", "s3", up.call); !errors.As(err, &open) {
			t.Errorf("after a failed trial: %v, want a refusal", err)
		}
		time.Sleep(70 * time.Second)
		for range 2 {
			if err := registry.Do(t.Context(), "ns/t", "s3", up.call); err != nil {
				t.Errorf("recovered: %v", err)
			}
		}
		if n := registry.Stats().CircuitBreakerTriggered; n != 2 {
			t.Errorf("opened %d times, want 2", n)
		}
	})
}

// TestHalfOpenBreaker checks that a breaker lets one call through as its trial, and no other until that has ended.
func TestHalfOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := NewRegistry(Options{FailureThreshold: 1, OpenFor: time.Minute, Policy: Policy{MaxAttempts: 1}}, nil)
		_ = registry.Do(t.Context(), "ns/t", "s3", (&script{answers: []error{errDown}}).call)
		time.Sleep(70 * time.Second)
		end := make(chan error)
		trial := make(chan error, 1)
		go func() {
			trial <- registry.Do(t.Context(), "ns/t", "s3", func(context.Context) error { return <-end })
		}()
		synctest.Wait()
		up := &script{answers: []error{nil}}
		for range 10 {
			var open *OpenError
			if err := registry.Do(t.Context(), "ns/t", "s3", up.call); !errors.As(err, &open) {
				t.Errorf("next to the trial: %v, want a refusal", err)
			}
		}
		if up.calls != 0 {
			t.Errorf("%d calls were made next to the trial", up.calls)
		}
		end <- nil
		if err := <-trial; err != nil {
			t.Errorf("the trial: %v", err)
		}
		if err := registry.Do(t.Context(), "ns/t", "s3", up.call); err != nil {
			t.Errorf("after the trial: %v", err)
		}
	})
}

// TestBreakerNeutral verifies that a call without a verdict on the dependency neither opens nor closes its breaker.
func TestBreakerNeutral(t *testing.T) {
	cancelled := func(r *Registry) error {
		ctx, cancel := context.WithCancel(context.Background())
		return r.Do(ctx, "ns/t", "s3", func(ctx context.Context) error { cancel(); return ctx.Err() })
	}
	aborted := func(r *Registry) error {
		return r.Do(context.Background(), "ns/t", "s3", func(context.Context) error { return Abort(errDown) })
	}
	for name, neutral := range map[string]func(*Registry) error{"cancelled": cancelled, "aborted": aborted} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				registry := NewRegistry(Options{FailureThreshold: 2, Policy: Policy{MaxAttempts: 1}}, nil)
				down := &script{answers: []error{errDown}}
				for range 10 {
					_ = neutral(registry)
				}
				_ = registry.Do(t.Context(), "ns/t", "s3", down.call)
				_ = neutral(registry) // between two failures: they still are in a row
				_ = registry.Do(t.Context(), "ns/t", "s3", down.call)
				var open *OpenError
				if err := neutral(registry); !errors.As(err, &open) {
					t.Fatalf("got %v, want a refusal", err)
				}
				time.Sleep(2 * time.Minute)
				_ = neutral(registry) // as the trial: it proves nothing
				if err := registry.Do(t.Context(), "ns/t", "s3", down.call); !errors.As(err, &open) {
					t.Errorf("got %v: the breaker closed for a trial without a result", err)
				}
			})
		})
	}
	t.Run("an answer is a sign of life", func(t *testing.T) {
		registry := NewRegistry(Options{FailureThreshold: 2, Policy: Policy{MaxAttempts: 1}}, nil)
		for range 10 {
			_ = registry.Do(t.Context(), "ns/t", "s3", (&script{answers: []error{errDown}}).call)
			if err := registry.Do(
				t.Context(), "ns/t", "s3", (&script{answers: []error{&HTTPError{Status: 404}}}).call,
			); err == nil ||
				err.Error() == "" {
				t.Fatal(err)
			}
		}
		if n := registry.Stats().CircuitBreakerTriggered; n != 0 {
			t.Errorf("opened %d times", n)
		}
	})
}

func TestCancelledWhileWaiting(t *testing.T) {
	defer goleak.VerifyNone(t)
	registry := NewRegistry(Options{Policy: Policy{BaseDelay: time.Hour, MaxDelay: time.Hour}}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err := registry.Do(ctx, "ns/t", "s3", (&script{answers: []error{errDown}}).call)
	if !errors.Is(err, errDown) || time.Since(begun) > 5*time.Second {
		t.Errorf("got %v after %s, want the last error at once", err, time.Since(begun))
	}
}

func TestBoundedAndForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := NewRegistry(Options{MaxBreakers: 3, FailureThreshold: 1, Policy: Policy{MaxAttempts: 1}}, nil)
		down := &script{answers: []error{errDown}}
		for i := range 10 {
			_ = registry.Do(t.Context(), fmt.Sprintf("ns/t%d", i), "s3", down.call)
			time.Sleep(time.Millisecond) // so that the order of use is plain
		}
		if n := len(registry.breakers); n != 3 {
			t.Errorf("%d breakers, want 3", n)
		}
		var open *OpenError
		for _, tenant := range []string{"ns/t7", "ns/t8", "ns/t9"} {
			if err := registry.Do(t.Context(), tenant, "s3", down.call); !errors.As(err, &open) {
				t.Errorf("the breaker of %s, one of the newest, was dropped: %v", tenant, err)
			}
		}
		registry.Forget("ns/t9")
		if err := registry.Do(t.Context(), "ns/t9", "s3", down.call); !errors.Is(err, errDown) {
			t.Errorf("not forgotten: %v", err)
		}
	})
}

func TestConcurrent(t *testing.T) {
	defer goleak.VerifyNone(t)
	registry := NewRegistry(Options{Policy: Policy{BaseDelay: time.Microsecond, MaxDelay: time.Microsecond}}, nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			s := &script{answers: []error{io.ErrUnexpectedEOF, nil}}
			if err := registry.Do(t.Context(), fmt.Sprint(i%7), "s3", s.call); err != nil {
				t.Error(err)
			}
			registry.Forget(fmt.Sprint(i % 5))
		})
	}
	wg.Wait()
	if stats := registry.Stats(); stats.TotalRetries != 50 || stats.SuccessfulRetries != 50 {
		t.Errorf("%+v", stats)
	}
}
