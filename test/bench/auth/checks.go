package main

import (
	"context"
	"fmt"
	"time"

	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/store"
)

const (
	// checkedTokens are checked in each run: cold for the first time, then remembered.
	checkedTokens = 5000
	// warmPasses let a run of remembered tokens take about as long as one of new ones.
	warmPasses = 40
)

// revoked is a database in which one session is revoked.
type revoked struct{ list []store.Revocation }

// RevocationsSince answers what token.Revocations asks.
func (r revoked) RevocationsSince(
	_ context.Context,
	_ []string,
	_ time.Duration,
	after int64,
	_ int,
) ([]store.Revocation, error) {
	if after > 0 {
		return nil, nil
	}
	return r.list, nil
}

// measureChecks compares checks of remembered tokens with first checks, in this process, as a pod that knows of revocations does them.
func measureChecks(ctx context.Context, rounds int) (ratio, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := newTokens(ctx)
	if err != nil {
		return ratio{}, err
	}
	var warm, cold []time.Duration
	for round := range rounds + 1 {
		raw := make([]string, checkedTokens)
		for i := range raw {
			if raw[i], err = mint(s, store.NewID()); err != nil {
				return ratio{}, err
			}
		}
		c, err := check(s, raw, 1)
		if err != nil {
			return ratio{}, err
		}
		w, err := check(s, raw, warmPasses)
		if err != nil {
			return ratio{}, err
		}
		fmt.Printf("round %d, checks of tokens    cold %7s   remembered %5s\n", round, c, w)
		if round > 0 {
			cold, warm = append(cold, c), append(warm, w)
		}
	}
	return ratio{"auth.warm_check_vs_cold_verify", over(warm, cold), 4}, nil
}

func newTokens(ctx context.Context) (*token.Service, error) {
	ring := keyring.New(time.Now())
	gone := revoked{[]store.Revocation{{ID: 1, Tenant: tenantID, SessionID: store.NewID(), At: time.Now()}}}
	revocations := token.NewRevocations(token.RevocationOptions{
		Store:   gone,
		Tenants: func() []string { return []string{tenantID} },
	})
	go func() { _ = revocations.Run(ctx) }()
	s := token.New(token.Options{
		Issuer:      "https://caly.example",
		Audience:    "caly",
		Ring:        func() *keyring.Ring { return ring },
		Revocations: revocations,
		CacheSize:   8 * checkedTokens,
	}) // the tokens of a round are not spread evenly
	return s, until(ctx, "the revocations are not read", s.Ready)
}

func mint(s *token.Service, session string) (string, error) {
	now := time.Now()
	return s.Mint(token.Claims{
		Tenant:    tenantID,
		TenantUID: tenantUID,
		UserID:    store.NewID(),
		SessionID: session,
		Role:      store.RoleViewer,
		IssuedAt:  now,
		ExpiresAt: now.Add(15 * time.Minute),
	})
}

// check returns what one check took.
func check(s *token.Service, raw []string, passes int) (time.Duration, error) {
	start := time.Now()
	for range passes {
		for _, t := range raw {
			if _, err := s.Check(t); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(start) / time.Duration(passes*len(raw)), nil
}

// until asks until there is no error, and returns the last one after half a minute.
func until(ctx context.Context, what string, ask func() error) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
