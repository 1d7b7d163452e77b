package token

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/keyring"
)

const (
	issuer, audience = "https://voice.example", "caly"
	acme, globex     = "acme/support", "globex/sales"
	user1            = "0b8a3c1e-6f0e-4a52-9d0b-6a6f3f1f9a01"
	user2            = "0b8a3c1e-6f0e-4a52-9d0b-6a6f3f1f9a02"
	session1         = "5a0f6a7e-0a51-4a5c-8a9c-1f6f0a7b2c01"
	session2         = "5a0f6a7e-0a51-4a5c-8a9c-1f6f0a7b2c02"
)

// clock is one that a test moves.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 11, 2, 10, 0, 0, 123_456_000, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.nanos.Load()).UTC() }
func (c *clock) pass(d time.Duration) { c.nanos.Add(int64(d)) }

// service is a Service with a ring and a clock of its own.
type service struct {
	*Service
	clock *clock
	ring  atomic.Pointer[keyring.Ring]
}

func newService(t testing.TB, change ...func(*Options)) *service {
	t.Helper()
	r := &service{clock: newClock()}
	r.ring.Store(keyring.New(r.clock.now().Add(-time.Hour)))
	options := Options{Issuer: issuer, Audience: audience, Ring: r.ring.Load, Now: r.clock.now}
	for _, f := range change {
		f(&options)
	}
	r.Service = New(options)
	return r
}

func (r *service) claims() Claims {
	return Claims{
		Tenant:    acme,
		TenantUID: "f3b5c1d2-1111-4222-8333-444455556666",
		UserID:    user1,
		SessionID: session1,
		Role:      "agent",
		IssuedAt:  r.clock.now(),
		ExpiresAt: r.clock.now().Add(15 * time.Minute),
	}
}

func (r *service) mint(t testing.TB, change ...func(*Claims)) string {
	t.Helper()
	claims := r.claims()
	for _, f := range change {
		f(&claims)
	}
	raw, err := r.Mint(claims)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// reason returns the reason of an error of Check: "" for nil, and the text of other errors than *Error.
func reason(err error) Reason {
	var refused *Error
	if errors.As(err, &refused) {
		return refused.Reason
	}
	if err != nil {
		return Reason(err.Error())
	}
	return ""
}

func (r *service) wantReason(t testing.TB, raw string, want Reason) {
	t.Helper()
	claims, err := r.Check(raw)
	if got := reason(err); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if (claims == nil) != (err != nil) ||
		err != nil && want != Reason(ErrNotReady.Error()) && !errors.Is(err, ErrInvalid) {
		t.Errorf("claims %v with the error %v", claims, err)
	}
}
